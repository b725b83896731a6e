"""Each step of the workflow as one function of (study, run) and paths.

The rules and the command line call these; they read and write files, everything below them works on
tensors.
"""

from __future__ import annotations

import dataclasses
import functools
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from e2mc.code_hash import code_hash
from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.images import Splits
from e2mc.data.source import ImageSource
from e2mc.data.subsets import stratified_split
from e2mc.evaluation.embeddings import embedding_statistics, load_method, sample_embeddings
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.finetune import fine_tune
from e2mc.evaluation.information import measure_method
from e2mc.evaluation.metrics import score
from e2mc.evaluation.separability import separability
from e2mc.frozen import FrozenBackbone, label_subsets, passes
from e2mc.models.checkpoint import CheckpointError, load_checkpoint
from e2mc.models.released import convert_own, convert_released
from e2mc.state import fingerprint, sha256, write_json
from e2mc.study import (
    BASE_ARM,
    SVM,
    FineTune,
    Linear,
    OnDisk,
    OwnCheckpoint,
    ReleasedCheckpoint,
    Run,
    Study,
)
from e2mc.training.loop import Measure, pretrain


def prepare_data(
    study: Study, folder: Path | None, downloads: Path, outputs: Mapping[str, Path]
) -> None:
    """Fetches, checks and splits Fashion-MNIST, and makes the data sets to transfer to.

    Args:
        study: which data.
        folder: where the published files are; None to have them fetched into ``downloads``.
        outputs: files to write for "images", "digits" and "outfits".

    Raises:
        DataError: when the files are not the published ones, or the study has other data.
    """
    from e2mc.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
    from e2mc.data.transfer import compose_outfits, load_digits

    data = study.data
    if isinstance(data, OnDisk):
        raise DataError(
            f"the images of study {study.name} are files of yours, which are listed and not "
            f"prepared: use `e2mc check-data --study {study.name}`"
        )
    whole, test = load_fashion_mnist(fetch_fashion_mnist(folder, downloads))
    rest, held_out = stratified_split(whole.labels, data.validation, data.split_seed)
    if data.train is not None:
        rest = rest[stratified_split(whole.labels[rest], data.train, data.split_seed)[1]]
    images = Splits(whole.subset(rest), whole.subset(held_out), test)
    images.save(outputs["images"])
    load_digits(data.image_size, data.split_seed).save(outputs["digits"])
    compose_outfits(images, data.outfits, data.split_seed).save(outputs["outfits"])


def convert_base(study: Study, base: str, original: Path, output: Path) -> None:
    """Brings a released checkpoint, or one of one's own, into this package's format."""
    item = study.bases[base]
    source = item.checkpoint
    params = item.method.params
    if isinstance(source, ReleasedCheckpoint):
        converted = convert_released(
            original,
            source.format,
            backbone=study.backbone,
            method_params=params,
            epochs=source.epochs,
        )
        settings = converted.provenance["optimizer_settings"]
        if item.continued.restore_optimizer and settings is not None:
            mine = item.continued.optimizer
            said = {"weight_decay": mine.weight_decay, "momentum": mine.momentum, "eta": 0.001}
            for name, value in said.items():
                if settings.get(name, value) != value:
                    print(
                        f"{original}: its optimizer had {name} = {settings[name]:g}; the study's "
                        f"{value:g} is used",
                        file=sys.stderr,
                    )
    else:
        assert isinstance(source, OwnCheckpoint)
        converted = convert_own(
            original,
            source.keys,
            backbone=study.backbone,
            in_channels=len(study.data.normalisation.mean),
            method=item.method.name,
            method_params=params,
            epochs=source.epochs,
            seed=source.head_seed,
        )
    origin = conversion_identity(study, base)["checkpoint"]
    provenance = converted.provenance | {"checkpoint": origin}
    dataclasses.replace(converted, provenance=provenance).save(output)


def index_data(
    study: Study, name: str, folder: Path | None, downloads: Path, output: Path
) -> Splits:
    """Counts, checks and lists the images of one data set on disk, without reading them.

    Args:
        study: which data.
        name: of the data set in the study.
        folder: where it is, from config.yaml.
        downloads: where label lists go.
        output: file to write.

    Raises:
        DataError: when there is no folder, or a count is not what the study says.
    """
    from e2mc.data.on_disk import find_images
    from e2mc.models.download import download

    assert isinstance(study.data, OnDisk)
    images = study.data.sets[name]
    if folder is None:
        raise DataError(
            f"study {study.name} needs the images of {images.format}: set "
            f"data_folders.{images.format} in config.yaml to their folder"
        )
    lists = {}
    for list_name, item in images.lists.items():
        path = Path(item.source)
        if item.source.startswith(("http://", "https://")):
            path = downloads / f"{list_name}.txt"
            download(item.source, path, expected_sha256=item.sha256)
        elif item.sha256 is not None and path.is_file() and sha256(path) != item.sha256:
            raise DataError(
                f"{path} has SHA-256 {sha256(path)}, the study names {item.sha256}: fetch it again"
            )
        lists[list_name] = path, item.count
    found = find_images(
        images.format,
        folder.expanduser(),
        classes=images.classes,
        train=images.train,
        test=images.test,
        validation=images.validation,
        lists=lists,
        seed=study.data.split_seed,
    )
    found.save(output)
    return found


def check_data(study: Study, folders: Mapping[str, Path | None], decode: bool = False) -> list[str]:
    """Counts the images and classes of every data set of a study on disk.

    Args:
        study: which data.
        folders: format -> where it is, from config.yaml.
        decode: also decode every image.

    Returns:
        One line per data set.

    Raises:
        DataError: names every data set that is not what it should be.
    """
    if not isinstance(study.data, OnDisk):
        raise DataError(f"study {study.name} has no images on disk: nothing to check")
    lines, problems = [], []
    for name, images in study.data.sets.items():
        output = study.dataset_path(name)
        downloads = study.root / "data" / "downloads"
        try:
            found = index_data(study, name, folders.get(images.format), downloads, output)
        except (DataError, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        counts = f"{len(found.train):,} training, {len(found.validation):,} validation"
        lines.append(
            f"{name}: {len(found.train.classes):,} classes, {counts} and {len(found.test):,} test "
            f"images in {folders.get(images.format)}"
        )
        if decode:
            parts = (found.train, found.validation, found.test)
            files = [part for part in parts if isinstance(part, ImageFiles)]
            broken = [problem for part in files for problem in part.broken()]
            problems += [f"{name}: {len(broken):,} broken images: {broken[0]}"] if broken else []
    if problems:
        raise DataError("; ".join(problems))
    return lines


def train(
    study: Study,
    run: Run,
    start: Path | None,
    images: Path,
    output: Path,
    device: str,
    loggers: Sequence[str] = (),
) -> None:
    """Pre-trains a base (``start`` is None), or goes on from a checkpoint."""
    training = Splits.load(images).train
    count = study.training_images(run)
    if count is not None:
        # drawn once per study, so that every arm and seed sees the same images
        training = training.subset(stratified_split(training.labels, count, seed=0)[1])
    checkpoint = None if start is None else load_checkpoint(start)
    spec = study.training_spec(run)
    pretrain(
        spec,
        training,
        output,
        start=checkpoint,
        device=resolve_device(device),
        what=f"{run.base} {run.arm} {run.seeds}",
        log_every=20 if checkpoint is None else 1,
        loggers=loggers,
        measure=_instrument(study, run, training, resolve_device(device)),
    )


def _instrument(study: Study, run: Run, images: ImageSource, device: str) -> Measure | None:
    """What ``pretrain`` measures along a run, if the study has it measured."""
    if study.information is None:
        return None
    base = study.bases[run.base]
    return functools.partial(
        measure_method,
        images=images,
        recipes=base.views,
        normalisation=base.normalisation or study.data.normalisation,
        instrument=study.instrument,
        device=device,
    )


def measure_information(
    study: Study,
    run: Run,
    checkpoint: Path,
    datasets: Mapping[str, Path],
    output: Path,
    device: str,
) -> None:
    """Entropy, reconstruction and marginal entropy of a checkpoint, on the training images."""
    watch = _Watch()
    device = resolve_device(device)
    base = study.bases[run.base]
    values = measure_method(
        load_method(load_checkpoint(checkpoint)).to(device),
        Splits.load(datasets["images"]).train,
        base.views,
        base.normalisation or study.data.normalisation,
        study.instrument,
        device,
    )
    scores = [
        score(name, value, split="train", features="embeddings") for name, value in values.items()
    ]
    _write_result(output, study, run, "information", scores, {}, watch, device)


def evaluate_frozen(
    study: Study,
    run: Run,
    checkpoint: Path,
    datasets: Mapping[str, Path],
    outputs: Mapping[str, Path],
    device: str,
) -> None:
    """Every paradigm with a frozen backbone; features of a data set are computed once.

    Linear heads on random views take hours: their state is kept beside the results after every
    epoch, and the same call goes on from it.

    Args:
        checkpoint: the run's model.
        datasets: files of the data sets by name.
        outputs: paradigm -> result file.
    """
    backbone = FrozenBackbone(study, checkpoint, datasets, resolve_device(device))

    def write(name: str, scores: list[dict], details: dict[str, Any], watch: _Watch) -> None:
        _write_result(outputs[name], study, run, name, scores, details, watch, device)

    streamed: dict[str, Linear] = {}
    for name in outputs:
        paradigm = study.paradigms[name]
        watch = _Watch()
        if isinstance(paradigm, SVM):
            write(name, *backbone.svm(paradigm), watch)
        elif not isinstance(paradigm, Linear):
            raise ValueError(f"{name} trains the backbone: it is no paradigm of a frozen one")
        elif paradigm.views is None:
            write(name, *backbone.linear_cached(paradigm), watch)
        else:
            streamed[name] = paradigm
    for together in passes(streamed):
        watch = _Watch()
        state = outputs[next(iter(together))].with_suffix(".state")
        for name, (scores, details) in backbone.linear_streamed(together, state).items():
            write(name, scores, details, watch)
        state.unlink(missing_ok=True)


def evaluate_fine_tuned(
    study: Study,
    run: Run,
    checkpoint: Path,
    datasets: Mapping[str, Path],
    outputs: Mapping[str, Path],
    device: str,
) -> None:
    """Every paradigm that trains the whole network on a share of the labels.

    The state is kept beside each result after every epoch, and the same call goes on from it.

    Args:
        checkpoint: the run's model.
        datasets: files of the data sets by name.
        outputs: paradigm -> result file.
    """
    backbone = load_checkpoint(checkpoint).load_backbone()
    for name, path in outputs.items():
        paradigm = study.paradigms[name]
        assert isinstance(paradigm, FineTune)
        data = Splits.load(datasets[paradigm.dataset])
        identity = evaluation_identity(study, run, name) | {"checkpoint": sha256(checkpoint)}
        identity["code"] = code_hash("evaluation")
        watch = _Watch()
        scores: list[dict[str, Any]] = []
        details: dict[str, Any] = {}
        states = []
        for seed, subset in label_subsets(paradigm, data).items():
            state = None
            if isinstance(data.train, ImageFiles):
                states.append(path.with_name(f"{path.stem}-{seed}.state"))
                state = EpochState(states[-1], fingerprint(identity))
            found, details[str(seed)] = fine_tune(
                backbone,
                data.train,
                subset,
                data.validation,
                data.test,
                protocol=paradigm.protocol,
                normalisation=study.data.normalisation_of(paradigm.dataset),
                view=study.data.view(paradigm.dataset),
                seed=seed,
                device=resolve_device(device),
                state=state,
                what=f"{run.base} {run.arm} {run.seeds} {name}",
            )
            scores += found
        _write_result(path, study, run, name, scores, details, watch, device)
        for state_path in states:
            state_path.unlink(missing_ok=True)


def measure(
    study: Study,
    run: Run,
    checkpoint: Path,
    datasets: Mapping[str, Path],
    outputs: Mapping[str, Path],
    device: str,
) -> None:
    """What no classifier tells, on the test images.

    Args:
        checkpoint: the run's model.
        datasets: file for "images".
        outputs: files to write for "separability" (how separable the classes and random labelings
            of the backbone's features are) and "embeddings" (marginal entropies, correlations and
            spectrum of what a criterion sees).
    """
    backbone = FrozenBackbone(study, checkpoint, datasets, resolve_device(device))
    for name, path in outputs.items():
        watch = _Watch()
        if name == "separability":
            scores, details = separability(*backbone.known("images", "test"))
        else:
            protocol = evaluation_identity(study, run, name)["paradigm"]
            z = sample_embeddings(
                load_method(load_checkpoint(checkpoint)),
                Splits.load(datasets["images"]).test,
                study.bases[run.base].views[0],
                study.bases[run.base].normalisation or study.data.normalisation,
                batch_size=protocol["batch_size"],
                device=resolve_device(device),
            )
            scores, details = embedding_statistics(z, protocol["mapping"])
        _write_result(path, study, run, name, scores, details, watch, device)


def verify_shipped(path: Path, expected: str) -> None:
    """Raises CheckpointError unless the file is there with the SHA-256 that the study names."""
    advice = "restore it (git checkout), or set base_checkpoints: shipped-or-retrain in config.yaml"
    if not path.is_file():
        raise CheckpointError(f"shipped checkpoint {path} is missing: {advice}")
    found = sha256(path)
    if found != expected:
        raise CheckpointError(
            f"shipped checkpoint {path} has SHA-256 {found}, the study names {expected}: {advice}"
        )


def resolve_device(device: str) -> str:
    """ "auto" is the GPU where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


class _Watch:
    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        return round(time.perf_counter() - self.start, 2)


def _write_result(
    path: Path,
    study: Study,
    run: Run,
    paradigm: str,
    scores: Iterable[dict],
    details: dict[str, Any],
    watch: _Watch,
    device: str,
) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    device = resolve_device(device)
    spec = evaluation_identity(study, run, paradigm)
    write_json(
        {
            "study": study.name,
            "base": run.base,
            "arm": run.arm,
            "base_seed": run.base_seed,
            "continuation_seed": run.continuation_seed,
            "paradigm": paradigm,
            "scores": list(scores),
            "protocol": spec["paradigm"],
            "details": details,
            "spec_hash": fingerprint(spec),
            "code_hash": f"{code_hash('training')}-{code_hash('evaluation')}",
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "wall_seconds": watch.seconds(),
            # kilobytes on Linux, bytes on macOS
            "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
        },
        path,
    )


def training_identity(study: Study, run: Run) -> dict[str, Any]:
    """What decides the checkpoint of a run, as plain values."""
    base = study.bases[run.base]
    if run.arm == BASE_ARM and base.converted:
        return conversion_identity(study, run.base)
    return {
        "spec": dataclasses.asdict(study.training_spec(run)),
        "images": study.training_images(run),
        "data": study.data.training_identity(),
    }


def conversion_identity(study: Study, base: str) -> dict[str, Any]:
    """What decides the checkpoint of a base that comes from a file, apart from the file."""
    item = study.bases[base]
    assert item.checkpoint is not None
    return {
        "checkpoint": item.checkpoint.model_dump(mode="json"),
        "backbone": study.backbone,
        "method": dataclasses.asdict(item.method),
    }


def evaluation_identity(study: Study, run: Run, paradigm: str) -> dict[str, Any]:
    """What decides a result: how the checkpoint was made and how it is scored."""
    if paradigm == "embeddings":
        recipe = study.bases[run.base].continued
        mapping = study.entropy_mapping(run.base)
        protocol: Any = {"batch_size": recipe.batch_size, "mapping": mapping}
    elif paradigm == "information":
        protocol = dataclasses.asdict(study.instrument)
    else:
        known = study.paradigms.get(paradigm)
        protocol = None if known is None else known.model_dump(mode="json")
    identity = {"training": training_identity(study, run), "paradigm": protocol}
    dataset = study.paradigms[paradigm].dataset if paradigm in study.paradigms else "images"
    return identity | study.data.evaluation_identity(dataset)
