"""How fast images are decoded and augmented, and what of the training step that leaves.

    python benchmarks/throughput.py > benchmarks/throughput-cpu.md
    python benchmarks/throughput.py --device cuda > benchmarks/throughput-gpu.md
    python benchmarks/throughput.py --only frozen > benchmarks/frozen-pass-cpu.md

Pictures of 500 x 375 pixels are generated and written as JPEGs. "Pillow" is the pipeline of the
official code: every view image by image, with torchvision's transforms of Pillow images. "ours"
decodes each image once, takes its crops on the same core and leaves the rest to the GPU. The
recipes are those of studies/paper.yaml. One core's work is measured in processor time, in turns, so
that other processes do not matter. With a GPU, whole input pipelines with all workers are timed by
the wall clock, from the start of the workers to the last of many batches, and training steps of
ResNet-50 after a warm-up, with synthetic views and with real ones. Frozen passes of ResNet-50, as
they are and as studies/paper.yaml has them, take turns over the same views; on a CPU one core's
processor time counts.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from e2mc.data.files import ImageFiles, decode, random_crop, usable_cores
from e2mc.data.source import Batch, ImageSource, recipe_of_each_view
from e2mc.data.views import Draws, Normalisation, ViewRecipe, finish_view
from e2mc.evaluation.features import pooled_features
from e2mc.evaluation.frozen import AS_IT_IS, FrozenPass
from e2mc.models import create_backbone
from e2mc.study import Run, load_study
from e2mc.training.loop import _Training
from e2mc.training.spec import TrainingSpec

IMAGENET = 1_281_167
WARM_UP = 2
MODES = {
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "bicubic": transforms.InterpolationMode.BICUBIC,
}
RUNS = {"VICReg": ("vicreg", "continued"), "SwAV": ("swav_800", "continued")}


def write_pictures(folder: Path, count: int) -> ImageFiles:
    """JPEGs of smooth colours and noise, about 65 kB each."""
    noise = np.random.default_rng(0)
    for i in range(count):
        coarse = noise.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        grainy = picture + noise.integers(-12, 13, picture.shape)
        pixels = np.clip(grainy, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
    names = [f"{i}.jpg" for i in range(count)]
    return ImageFiles.of(folder, names, torch.zeros(count, dtype=torch.long), ("picture",))


def repeated(images: ImageFiles, count: int) -> ImageFiles:
    """As if there were ``count`` images: the same files again and again."""
    return images.subset(torch.arange(count) % len(images))


# --- Pillow, image by image ---


def pillow_transform(recipe: ViewRecipe, normalisation: Normalisation) -> transforms.Compose:
    """What the official code does with one image for one view."""

    def blur(image: Image.Image) -> Image.Image:
        sigma = random.uniform(*recipe.blur_sigma)
        return image.filter(ImageFilter.GaussianBlur(sigma))

    jitter = transforms.ColorJitter(
        recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue
    )
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                recipe.size, recipe.crop_scale, interpolation=MODES[recipe.interpolation]
            ),
            transforms.RandomHorizontalFlip(recipe.flip),
            transforms.RandomApply([jitter], recipe.jitter),
            transforms.RandomGrayscale(recipe.grayscale),
            transforms.RandomApply([blur], recipe.blur),
            transforms.RandomApply([ImageOps.solarize], recipe.solarize),
            transforms.ToTensor(),
            transforms.Normalize(normalisation.mean, normalisation.std),
        ]
    )


class PillowViews(Dataset):
    """All views of one image."""

    def __init__(
        self, images: ImageFiles, recipes: Sequence[ViewRecipe], normalisation: Normalisation
    ) -> None:
        self.images = images
        self.transforms = [
            pillow_transform(recipe, normalisation) for recipe in recipe_of_each_view(recipes)
        ]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        with Image.open(self.images.path(index)) as image:
            picture = image.convert("RGB")
        return [transform(picture) for transform in self.transforms]


def pillow_batches(
    images: ImageFiles, spec: TrainingSpec, batch_size: int, device: str
) -> Iterator[list[Tensor]]:
    dataset = PillowViews(images, spec.views, spec.normalisation)
    loader = DataLoader(dataset, batch_size, num_workers=usable_cores(), pin_memory=device != "cpu")
    for views in loader:
        yield [view.to(device, non_blocking=True) for view in views]


def our_batches(
    images: ImageSource, spec: TrainingSpec, batch_size: int, device: str
) -> Iterator[list[Tensor]]:
    batches = (
        Batch(indices, seed)
        for seed, indices in enumerate(torch.arange(len(images)).split(batch_size))
    )
    return images.views(batches, spec.views, spec.normalisation, device)


# --- measuring ---


def core_rows(
    images: ImageFiles, specs: dict[str, TrainingSpec], count: int
) -> Iterator[list[str]]:
    """What one core needs per image, in processor time: other processes do not count."""
    draws = random.Random(0)
    for name, spec in specs.items():
        flat = recipe_of_each_view(spec.views)
        official = PillowViews(images, spec.views, spec.normalisation)
        spent = {"Pillow": 0.0, "decoding": 0.0, "crops": 0.0}
        for index in range(-WARM_UP, count):
            marks = [time.process_time()]
            official[index % len(images)]
            marks.append(time.process_time())
            image = decode(images.path(index % len(images)))
            marks.append(time.process_time())
            for recipe in flat:
                random_crop(image, [draws.random() for _ in range(4)], recipe)
            marks.append(time.process_time())
            if index >= 0:
                for what, (before, after) in zip(spent, itertools.pairwise(marks), strict=True):
                    spent[what] += 1000 * (after - before) / count
        ours = spent["decoding"] + spent["crops"]
        yield [
            f"{name}, {len(flat)} views",
            *(f"{milliseconds:.2f}" for milliseconds in spent.values()),
            f"{1000 / spent['Pillow']:.0f}",
            f"{1000 / ours:.0f}",
            f"{spent['Pillow'] / ours:.1f}",
        ]


def input_rate(batches: Iterable, images: int, device: str) -> float:
    """Images per second from the start of the workers to the last batch."""
    start = time.perf_counter()
    for _ in batches:
        pass
    if device != "cpu":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def input_rows(
    images: ImageFiles, specs: dict[str, TrainingSpec], batch_size: int, steps: int, device: str
) -> Iterator[list[str]]:
    """Input pipelines without a network."""
    count = batch_size * max(steps, 4 * usable_cores())
    shown = repeated(images, count)
    for name, spec in specs.items():
        ours = input_rate(our_batches(shown, spec, batch_size, device), count, device)
        pillow = input_rate(pillow_batches(shown, spec, batch_size, device), count, device)
        yield [name, f"{pillow:,.0f}", f"{ours:,.0f}", f"{ours / pillow:.1f}"]


class SyntheticViews:
    """Views that are on the device already."""

    channels = 3

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def views(
        self,
        batches: Iterable[Batch],
        recipes: Sequence[ViewRecipe],
        normalisation: Normalisation,
        device: str,
    ) -> Iterator[list[Tensor]]:
        sizes = [recipe.size for recipe in recipe_of_each_view(recipes)]
        made = None
        for batch in batches:
            count = len(batch.local_indices)
            if made is None:
                made = [
                    torch.randn(count, 3, size, size, device=device).contiguous(
                        memory_format=torch.channels_last
                    )
                    for size in sizes
                ]
            yield made


def step_rate(spec: TrainingSpec, images: ImageSource, steps: int, device: str) -> float:
    """Images per second of whole training steps."""
    run = _Training(spec, images, None, device)
    views = run.views()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            torch.cuda.synchronize()
            start = time.perf_counter()
        run.advance(views)
    torch.cuda.synchronize()
    return steps * spec.batch_size / (time.perf_counter() - start)


def training_rows(
    images: ImageFiles, specs: dict[str, TrainingSpec], steps: int, device: str
) -> Iterator[list[str]]:
    """Whole training steps, with and without the criterion, on synthetic and on real views."""
    study = load_study("paper")
    for name, spec in specs.items():
        count = spec.batch_size * (steps + WARM_UP)
        criteria = study.training_spec(Run(RUNS[name][0], "e2mc", 0, 0)).criteria
        with_e2mc = replace(spec, criteria=criteria)
        plain = step_rate(spec, SyntheticViews(count), steps, device)
        synthetic = step_rate(with_e2mc, SyntheticViews(count), steps, device)
        compiled = step_rate(replace(with_e2mc, compile=True), SyntheticViews(count), steps, device)
        real = step_rate(with_e2mc, repeated(images, count), steps, device)
        yield [
            f"{name} + E2MC",
            str(spec.batch_size),
            spec.precision,
            f"{synthetic:,.0f}",
            f"{compiled:,.0f}",
            f"{real:,.0f}",
            f"{100 * real / synthetic:.0f} %",
            f"{100 * (1 - synthetic / plain):.1f} %",
            f"{10 * IMAGENET / real / 3600:.1f}",
        ]


FROZEN = {
    "as it is (float32)": AS_IT_IS,
    "folded, float32": FrozenPass(fold=True),
    "bfloat16": FrozenPass(precision="bfloat16"),
    "folded, bfloat16 (paper)": FrozenPass(precision="bfloat16", fold=True),
}


def frozen_rows(
    backbone: str, batch_size: int, rounds: int, compiled: bool, device: str
) -> Iterator[list[str]]:
    """Features of the frozen backbone at 224 pixels: the ways in turns, and how far values move."""
    torch.manual_seed(0)
    network = create_backbone(backbone, 3).eval().to(device)
    ways = FROZEN | (
        {"folded, bfloat16, compiled": replace(FROZEN["folded, bfloat16 (paper)"], compile=True)}
        if compiled
        else {}
    )
    passes = {name: how.of(network).eval().to(device) for name, how in ways.items()}
    # as the views come: channels last
    views = torch.randn(batch_size, 3, 224, 224, device=device)
    views = views.contiguous(memory_format=torch.channels_last)
    features = {name: pooled_features(frozen, views, False) for name, frozen in passes.items()}
    clock = time.process_time if device == "cpu" else time.perf_counter
    spent: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, frozen in passes.items():
            start = clock()
            pooled_features(frozen, views, False)
            if device != "cpu":
                torch.cuda.synchronize()
            spent[name].append(clock() - start)
    first, *_ = passes
    plain = features[first]
    for name, times in spent.items():
        apart = (features[name] - plain).norm() / (plain - plain.mean(dim=0)).norm()
        ratios = [before / after for before, after in zip(spent[first], times, strict=True)]
        yield [
            name,
            f"{batch_size / float(np.median(times)):,.1f}",
            f"{float(np.median(ratios)):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{100 * float(apart):.2g} %",
        ]


def device_rows(
    specs: dict[str, TrainingSpec], batch_size: int, device: str
) -> Iterator[list[str]]:
    """What flip, colours, blur, solarisation and normalisation take on the device."""
    repeats = 5
    for name, spec in specs.items():
        flat = recipe_of_each_view(spec.views)
        crops = {
            size: torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8).to(device)
            for size in {recipe.size for recipe in flat}
        }
        generator = torch.Generator().manual_seed(0)
        draws = [Draws.of(recipe, batch_size, 3, generator) for recipe in flat]

        def batches(
            spec: TrainingSpec, flat: list, draws: list, crops: dict, count: int
        ) -> Iterator[None]:
            for _ in range(count):
                for recipe, drawn in zip(flat, draws, strict=True):
                    finish_view(crops[recipe.size], recipe, spec.normalisation, drawn)
                yield

        parts = (spec, flat, draws, crops)
        input_rate(batches(*parts, 1), batch_size, device)  # warm-up
        images = input_rate(batches(*parts, repeats), repeats * batch_size, device)
        yield [name, f"{images:,.0f}", f"{1000 * batch_size / images:.1f}"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for line in itertools.chain([header, ["---"] * len(header)], rows):
        print(f"| {' | '.join(line)} |", flush=True)
    print(flush=True)


def machine(device: str) -> str:
    where = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        where = names[0].partition(": ")[2] if names else where
    cores = f"{where}, {len(os.sched_getaffinity(0))} cores"
    return cores if device == "cpu" else f"{torch.cuda.get_device_name()}, {cores}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=256, help="different JPEGs")
    parser.add_argument("--steps", type=int, default=30, help="of each measurement")
    parser.add_argument("--batch-size", type=int, default=64, help="of the input pipelines")
    parser.add_argument("--training-batch-size", type=int, default=512)
    parser.add_argument("--only", choices=("frozen",), help="the frozen passes alone")
    options = parser.parse_args()
    study = load_study("paper")
    specs = {
        name: replace(
            study.training_spec(Run(*run, 0, 0)),
            batch_size=options.training_batch_size,
            augmentation_streams=1,
        )
        for name, run in RUNS.items()
    }
    today = datetime.date.today().isoformat()
    print(
        f"Measured on {today}: {machine(options.device)}; torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}, Pillow {Image.__version__}, "
        f"Python {platform.python_version()}; {options.images} JPEGs of 500 x 375"
        f"{'' if options.device == 'cpu' else f', {options.steps} steps'}.\n"
    )
    on_cpu = options.device == "cpu"
    if on_cpu:
        torch.set_num_threads(1)
    of = "one core's processor time" if on_cpu else "the GPU"
    print(f"Frozen ResNet-50, features/s at 224 pixels, {of}, medians of turns:\n")
    rows = frozen_rows(
        study.backbone,
        16 if on_cpu else 256,
        7 if on_cpu else options.steps,
        not on_cpu,
        options.device,
    )
    header = ["pass", "features/s", "ratio to as it is", "over turns", "features move by"]
    table(header, rows)
    if options.only:
        return
    with tempfile.TemporaryDirectory() as folder:
        images = write_pictures(Path(folder), options.images)
        print("What is left to processor cores, ms and images/s of one core:\n")
        table(
            [
                "views",
                "Pillow ms",
                "ours: decoding ms",
                "crops ms",
                "Pillow images/s",
                "ours images/s",
                "ours / Pillow",
            ],
            core_rows(images, specs, options.images),
        )
        if options.device == "cpu":
            return
        print("Input alone, images/s with all their views on the GPU:\n")
        header = ["views", "Pillow", "ours", "ours / Pillow"]
        table(header, input_rows(images, specs, options.batch_size, options.steps, options.device))
        print("What is done on the GPU after the crop:\n")
        header = ["views", "images/s", f"ms per batch of {options.batch_size}"]
        table(header, device_rows(specs, options.batch_size, options.device))
        print("Training steps with ResNet-50, images/s:\n")
        table(
            [
                "step",
                "batch",
                "precision",
                "synthetic views",
                "with compile",
                "real JPEGs",
                "real / synthetic",
                "criterion's share",
                "hours for 10 epochs",
            ],
            training_rows(images, specs, options.steps, options.device),
        )


if __name__ == "__main__":
    main()
