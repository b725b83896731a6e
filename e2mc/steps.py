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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from e2mc.data.images import ImageSet, Splits
from e2mc.data.subsets import stratified_split, stratified_subset
from e2mc.evaluation.features import CachedFeatures, extract_features, whiten, whitening
from e2mc.evaluation.finetune import fine_tune
from e2mc.evaluation.linear import linear_probe
from e2mc.evaluation.metrics import rank_summary
from e2mc.evaluation.separability import separability
from e2mc.evaluation.svm import svm_probe
from e2mc.models.checkpoint import CheckpointError, load_checkpoint
from e2mc.models.released import convert_own, convert_released
from e2mc.state import fingerprint, sha256, write_json
from e2mc.study import (
    BASE_ARM,
    SVM,
    FineTune,
    Linear,
    OwnCheckpoint,
    ReleasedCheckpoint,
    Run,
    Study,
    code_hash,
)
from e2mc.training.loop import pretrain


def prepare_data(
    study: Study, folder: Path | None, downloads: Path, outputs: Mapping[str, Path]
) -> None:
    """Fetches, checks and splits the images, and makes the data sets to transfer to.

    Args:
        study: which data.
        folder: where the published files are; None to have them fetched into ``downloads``.
        outputs: files to write for "images", "digits" and "outfits".
    """
    from e2mc.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
    from e2mc.data.transfer import compose_outfits, load_digits

    data = study.data
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


def train(study: Study, run: Run, start: Path | None, images: Path, output: Path, device: str):
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
    )


def evaluate_frozen(
    study: Study,
    run: Run,
    checkpoint: Path,
    datasets: Mapping[str, Path],
    outputs: Mapping[str, Path],
    device: str,
) -> None:
    """Every paradigm with a frozen backbone; features of a data set are computed once.

    Args:
        checkpoint: the run's model.
        datasets: files for "images", "digits" and "outfits".
        outputs: paradigm -> result file.
    """
    features = _Features(study, checkpoint, datasets, resolve_device(device))
    for name, path in outputs.items():
        paradigm = study.paradigms[name]
        watch = _Watch()
        if isinstance(paradigm, SVM):
            scores, details = svm_probe(
                *features.of("outfits", "train", spatial=True),
                *features.of("outfits", "test", spatial=True),
                protocol=paradigm.protocol,
            )
        else:
            scores, details = _linear(features, paradigm)
        _write_result(path, study, run, name, scores, details, watch, device)


def evaluate_fine_tuned(
    study: Study,
    run: Run,
    checkpoint: Path,
    images: Path,
    outputs: Mapping[str, Path],
    device: str,
) -> None:
    """Every paradigm that trains the whole network on a share of the labels."""
    backbone = load_checkpoint(checkpoint).load_backbone()
    data = Splits.load(images)
    for name, path in outputs.items():
        paradigm = study.paradigms[name]
        assert isinstance(paradigm, FineTune)
        watch = _Watch()
        scores: list[dict[str, Any]] = []
        details: dict[str, Any] = {}
        for seed in paradigm.label_seeds:
            subset = stratified_subset(
                data.train.labels, paradigm.fraction, seed, data.train.classes
            )
            found, details[str(seed)] = fine_tune(
                backbone,
                data.train,
                subset,
                data.validation,
                data.test,
                protocol=paradigm.protocol,
                normalisation=study.data.normalisation,
                size=study.data.image_size,
                seed=seed,
                device=resolve_device(device),
            )
            scores += found
        _write_result(path, study, run, name, scores, details, watch, device)


def measure_separability(
    study: Study,
    run: Run,
    checkpoint: Path,
    datasets: Mapping[str, Path],
    output: Path,
    device: str,
) -> None:
    """How separable the classes and random labelings of the test images' features are."""
    watch = _Watch()
    features = _Features(study, checkpoint, datasets, resolve_device(device))
    values, labels = features.of("images", "test")
    scores, details = separability(values, labels)
    _write_result(output, study, run, "separability", scores, details, watch, device)


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


class _Features:
    """Features of one backbone, each data set's computed when first asked for."""

    def __init__(
        self, study: Study, checkpoint: Path, datasets: Mapping[str, Path], device: str
    ) -> None:
        self.study, self.datasets, self.device = study, datasets, device
        self.backbone = load_checkpoint(checkpoint).load_backbone()
        self.splits = functools.cache(self._splits)
        self.of = functools.cache(self._of)
        self.whitener = functools.cache(self._whitener)

    def _splits(self, dataset: str) -> Splits:
        return Splits.load(self.datasets[dataset])

    def _of(self, dataset: str, split: str, spatial: bool = False):
        """Features and labels of one split."""
        images: ImageSet = getattr(self.splits(dataset), split)
        values = extract_features(
            self.backbone,
            images.images,
            normalisation=self.study.data.normalisation,
            size=images.images.shape[-1],
            device=self.device,
            spatial=spatial,
        )
        return values, images.labels

    def _whitener(self, dataset: str):
        return whitening(self.of(dataset, "train")[0])


def _linear(features: _Features, paradigm: Linear) -> tuple[list[dict], dict[str, Any]]:
    """Linear heads on the features as they are, and on whitened ones."""
    dataset = paradigm.dataset
    splits = features.splits(dataset)
    labels = splits.train.labels
    subsets = {
        seed: stratified_subset(labels, paradigm.fraction, seed, splits.train.classes)
        for seed in paradigm.label_seeds
    }
    scores: list[dict] = []
    details: dict[str, Any] = {"rank": rank_summary(features.of(dataset, "train")[0])}
    for kind in ("raw", "whitened"):
        parts = {}
        for split in ("train", "validation", "test"):
            values, targets = features.of(dataset, split)
            if kind == "whitened":
                values = whiten(values, *features.whitener(dataset))
            parts[split] = values, targets
        found, details[kind] = linear_probe(
            CachedFeatures(parts["train"][0]),
            labels,
            subsets,
            validation=parts["validation"],
            test=parts["test"],
            classes=len(splits.train.classes),
            protocol=paradigm.protocol,
            features=kind,
        )
        scores += found
    return scores, details


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
        "data": study.data.model_dump(mode="json"),
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
    protocol = study.paradigms.get(paradigm)
    return {
        "training": training_identity(study, run),
        "paradigm": None if protocol is None else protocol.model_dump(mode="json"),
    }
