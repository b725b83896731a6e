"""Images per second of each kind of step on this machine, measured in under a minute each."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from e2mc.cli.estimate import (
    COLUMNS,
    FEATURES,
    FINE_TUNING,
    RATES,
    Rates,
    counted_data,
    read_rates,
)
from e2mc.data.files import ImageFiles, usable_cores
from e2mc.data.images import ImageSet, Splits
from e2mc.data.source import LabelledSource
from e2mc.data.views import ViewRecipe
from e2mc.evaluation.features import ViewFeatures
from e2mc.evaluation.finetune import FineTune, fine_tune
from e2mc.models import create_backbone
from e2mc.state import atomic_path
from e2mc.study import Run, Study, load_stages
from e2mc.training.loop import pretrain

SECONDS = 30  # of one kind of step; the last doubling may take it to twice that
ON_CPU = 8  # images in a batch, which takes seconds there
PICTURES = 256  # generated, where there are none
Pass = Callable[[int], None]  # works through so many images


@dataclass(frozen=True)
class Measured:
    """A rate on this machine.

    Attributes:
        what: the method, "features" or "fine-tuning".
        images_per_second: decoding included, starting up not.
        n: images that were timed.
    """

    what: str
    images_per_second: float
    n: int


def rates_at_hand(
    study: Study,
    folders: Mapping[str, Path | None],
    device: str,
    tell: Callable[[str], None],
    path: Path = RATES,
) -> Rates:
    """The rates of a file, once measured for the study and its stages and written to it.

    Args:
        study: whose steps they are.
        folders: format -> where its images are, from config.yaml.
        device: "cpu", "cuda" or "cuda:<number>".
        tell: is told what is measured and found.
        path: the file. It may be of another device than this one; rates that it lacks are measured
            if it is of this one.

    Raises:
        InputError: when the study's data are not on disk.
    """
    known = read_rates(path) if path.exists() else None
    wanted = kinds(study)
    missing = [what for what in wanted if known is None or what not in known.images_per_second]
    name = device_name(device)
    if known is not None and (not missing or known.device != name):
        return known
    rows = [] if known is None else _rows(path)
    with some_images(study, folders) as (images, origin):
        tell(f"measuring on {name}, with {origin}; each kind of step takes less than a minute")
        for what in missing:
            found = measure(study, what, wanted[what], images, device)
            tell(f"  {what}: {found.images_per_second:,.1f} images/s (n = {found.n:,})")
            rate = f"{found.images_per_second:.4g}"
            values = (what, rate, name, str(found.n), origin)
            rows.append(dict(zip((*COLUMNS, "n", "images"), values, strict=True)))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "n", "images"])
        writer.writeheader()
        writer.writerows(rows)
    tell(f"written to {path}; delete it to measure again")
    return read_rates(path)


def kinds(study: Study) -> dict[str, str]:
    """What is to be measured for a study and its stages: kind of step -> base that shows it."""
    found = {
        item.method.name: base
        for one in (study, *load_stages(study))
        for base, item in reversed(one.bases.items())
    }
    first = next(iter(study.bases))
    fine_tunes = any(isinstance(p, FineTune) for p in study.paradigms.values())
    return found | {FEATURES: first} | ({FINE_TUNING: first} if fine_tunes else {})


def quick_rates(study: Study, images: LabelledSource, device: str, seconds: float) -> Rates:
    """The rates of a study's steps on its own images, each measured in about so many seconds."""
    found = {
        what: measure(study, what, base, images, device, seconds).images_per_second
        for what, base in kinds(study).items()
    }
    name = device_name(device)
    return Rates(found, f"measured on {name}", name)


def measure(
    study: Study,
    what: str,
    base: str,
    images: LabelledSource,
    device: str,
    seconds: float | None = None,
) -> Measured:
    """The rate of one kind of step.

    Args:
        study: whose recipes, sizes and backbone are taken.
        what: a method, "features" or "fine-tuning".
        base: of the study or one of its stages, whose continued pre-training shows the method.
        images: gone through as often as needed.
        device: where.
        seconds: about how long it may take; None: ``SECONDS``.
    """
    if what == FEATURES:
        return timed(what, *_features(study, images, device), device, seconds)
    if what == FINE_TUNING:
        return timed(what, *_fine_tuning(study, images, device), device, seconds)
    owner = next(one for one in (study, *load_stages(study)) if base in one.bases)
    with tempfile.TemporaryDirectory() as folder:
        run, batch_size = _training(owner, base, images, device, Path(folder))
        return timed(what, run, batch_size, device, seconds)


def _training(
    study: Study, base: str, images: LabelledSource, device: str, folder: Path
) -> tuple[Pass, int]:
    """Continued pre-training without a criterion, from random weights."""
    spec = study.training_spec(Run(base, "continued", 0, 0))
    spec = replace(
        spec,
        epochs=1,
        steps=None,
        head_warmup_epochs=0,
        micro_batches=1,
        augmentation_streams=1,
        restore_optimizer=False,
    )
    if _on_cpu(device):  # half precision takes minutes there
        spec = replace(spec, batch_size=min(spec.batch_size, ON_CPU), precision="float32")

    def run(count: int) -> None:
        pretrain(spec, repeated(images, count), folder / "checkpoint.pt", device=device, what="")

    return run, spec.batch_size


def _features(study: Study, images: LabelledSource, device: str) -> tuple[Pass, int]:
    """The frozen backbone on random views, which pass it as the study says."""
    batch_size = ON_CPU if _on_cpu(device) else 256
    stream = functools.partial(
        ViewFeatures,
        study.frozen_pass.of(create_backbone(study.backbone, images.channels)),
        recipe=ViewRecipe(size=study.data.view_of("images").size),
        normalisation=study.data.normalisation_of("images"),
        batch_size=batch_size,
        device=device,
    )

    def run(count: int) -> None:
        shown = repeated(images, count)
        for _ in stream(shown).epoch(0, torch.arange(count)):
            pass

    return run, batch_size


def _fine_tuning(study: Study, images: LabelledSource, device: str) -> tuple[Pass, int]:
    """The whole network, trained on labels."""
    [first, *_] = [p for p in study.paradigms.values() if isinstance(p, FineTune)]
    size = min(first.protocol.batch_size, ON_CPU) if _on_cpu(device) else first.protocol.batch_size
    protocol = replace(first.protocol, epochs=1, validate_every=1, batch_size=size)
    backbone = create_backbone(study.backbone, images.channels)
    few = repeated(images, 2)

    def run(count: int) -> None:
        fine_tune(
            backbone,
            repeated(images, count),
            torch.arange(count),
            few,
            few,
            protocol=protocol,
            normalisation=study.data.normalisation_of("images"),
            view=study.data.view_of("images"),
            seed=0,
            device=device,
        )

    return run, size


def timed(
    what: str,
    run: Pass,
    batch_size: int,
    device: str,
    limit: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """How fast ``run`` works through images beyond the first batch, which pays for starting up.

    Twice as many batches are taken until ``limit`` (in seconds; None: ``SECONDS``) is over. Where a
    single batch takes longer than that, starting up is little of it, and it is the measure.
    """
    limit = SECONDS if limit is None else limit

    def seconds(batches: int) -> float:
        before = clock()
        with contextlib.redirect_stderr(io.StringIO()):  # the progress of steps that are no run
            run(batches * batch_size)
        if not _on_cpu(device):
            torch.cuda.synchronize()
        return clock() - before

    begun = clock()
    first = seconds(1)  # libraries choose their algorithms
    if first > limit:
        return Measured(what, batch_size / first, batch_size)
    once = seconds(1)
    batches = 2
    while True:
        took = seconds(batches)
        n = (batches - 1) * batch_size
        if took > once and clock() - begun + 2 * took > limit:
            return Measured(what, n / (took - once), n)
        batches *= 2


def repeated(images: LabelledSource, count: int) -> LabelledSource:
    """As if there were ``count`` images: the same again and again."""
    return images.subset(torch.arange(count) % len(images))


@contextlib.contextmanager
def some_images(
    study: Study, folders: Mapping[str, Path | None]
) -> Iterator[tuple[LabelledSource, str]]:
    """Images of a study, and what they are: its own where they are there, else generated ones."""
    own = counted_data(study).every["images"]
    classes = tuple(map(str, range(own.classes)))
    given = own.folder or folders.get(own.place)
    folder = None if given is None else Path(given).expanduser()
    if study.dataset_path("images").exists():
        yield Splits.load(study.dataset_path("images")).pretraining, "the study's images"
    elif own.in_memory:
        side = own.view.size
        pixels = torch.randint(256, (PICTURES, study.data.channels, side, side), dtype=torch.uint8)
        labels = torch.zeros(PICTURES, dtype=torch.long)
        yield ImageSet(pixels, labels, classes), f"noise of {side} x {side} in memory"
    elif folder is not None and (names := _some_names(Path(folder).expanduser())):
        labels = torch.zeros(len(names), dtype=torch.long)
        yield (
            ImageFiles.of(Path(folder).expanduser(), names, labels, classes),
            f"images of {folder}",
        )
    else:
        with tempfile.TemporaryDirectory() as temporary:
            names = write_pictures(Path(temporary), PICTURES)
            yield _unlabelled(Path(temporary), names, classes), "generated JPEGs of 500 x 375"


def _unlabelled(folder: Path, names: list[str], classes: tuple[str, ...]) -> ImageFiles:
    """As if all were of one class: how long a step takes does not depend on it."""
    return ImageFiles.of(folder, names, torch.zeros(len(names), dtype=torch.long), classes)


def _some_names(folder: Path) -> list[str]:
    """The first few thousand JPEGs below a folder."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))
    return [str(path.relative_to(folder)) for path in itertools.islice(found, 4096)]


def write_pictures(folder: Path, count: int) -> list[str]:
    """JPEGs of smooth colours and noise, as large as ImageNet's and of about 65 kB; their names."""
    from PIL import Image

    noise = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(count)]
    for name in names:
        coarse = noise.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        grainy = picture + noise.integers(-12, 13, picture.shape)
        pixels = np.clip(grainy, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=90)
    return names


def device_name(device: str) -> str:
    """The GPU, or the processor with its cores."""
    if not _on_cpu(device):
        return f"one {torch.cuda.get_device_name(device)}, {usable_cores()} cores"
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {usable_cores()} cores"


def _on_cpu(device: str) -> bool:
    return torch.device(device).type == "cpu"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
