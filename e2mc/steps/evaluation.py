"""Every score of a checkpoint, into a JSON file per paradigm."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.files import ImageFiles
from e2mc.data.images import Splits
from e2mc.errors import InputError
from e2mc.evaluation.embeddings import embedding_statistics, sample_embeddings
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.finetune import fine_tune
from e2mc.evaluation.information import measure_method
from e2mc.evaluation.metrics import score
from e2mc.evaluation.separability import separability
from e2mc.frozen import FrozenBackbone, ScoresAndDetails, label_subsets, passes
from e2mc.identity import evaluation_code, evaluation_identity, training_code
from e2mc.state import fingerprint, sha256, write_json
from e2mc.steps.device import resolve_device
from e2mc.study import BASE_ARM, SVM, FineTune, Linear, Run, Study


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
        _write_result(outputs[name], study, run, checkpoint, name, scores, details, watch, device)

    streamed: dict[str, Linear] = {}
    for name in outputs:
        paradigm = study.paradigms[name]
        watch = _Watch()
        if isinstance(paradigm, SVM):
            write(name, *backbone.svm(paradigm), watch)
        elif not isinstance(paradigm, Linear):
            raise InputError(f"{name} trains the backbone: it is no paradigm of a frozen one")
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
        identity["code"] = evaluation_code(study, run).hash()
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
        _write_result(path, study, run, checkpoint, name, scores, details, watch, device)
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
    """What no classifier tells.

    Args:
        checkpoint: the run's model.
        datasets: file for "images".
        outputs: which measurements, and their result files. "separability": how separable the
            classes and random labelings of the backbone's features are, on the test images;
            "embeddings": marginal entropies, correlations and spectrum of what a criterion sees, on
            the test images; "information": entropy, reconstruction and marginal entropy of the
            embeddings, on the training images.
    """
    measurements = {
        "separability": _separability,
        "embeddings": _embeddings,
        "information": _information,
    }
    for name, path in outputs.items():
        watch = _Watch()
        found = measurements[name](study, run, checkpoint, datasets, resolve_device(device))
        _write_result(path, study, run, checkpoint, name, *found, watch, device)


def _separability(
    study: Study, run: Run, checkpoint: Path, datasets: Mapping[str, Path], device: str
) -> ScoresAndDetails:
    backbone = FrozenBackbone(study, checkpoint, datasets, device)
    return separability(*backbone.known("images", "test"))


def _embeddings(
    study: Study, run: Run, checkpoint: Path, datasets: Mapping[str, Path], device: str
) -> ScoresAndDetails:
    protocol = evaluation_identity(study, run, "embeddings")["paradigm"]
    z = sample_embeddings(
        load_checkpoint(checkpoint).load_method(),
        Splits.load(datasets["images"]).test,
        study.bases[run.base].views[0],
        study.bases[run.base].normalisation or study.data.normalisation,
        batch_size=protocol["batch_size"],
        device=device,
    )
    return embedding_statistics(z, protocol["mapping"])


def _information(
    study: Study, run: Run, checkpoint: Path, datasets: Mapping[str, Path], device: str
) -> ScoresAndDetails:
    base = study.bases[run.base]
    values = measure_method(
        load_checkpoint(checkpoint).load_method().to(device),
        Splits.load(datasets["images"]).train,
        base.views,
        base.normalisation or study.data.normalisation,
        study.instrument,
        device,
    )
    scores = [
        score(name, value, split="train", features="embeddings") for name, value in values.items()
    ]
    return scores, {}


class _Watch:
    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        return round(time.perf_counter() - self.start, 2)


def _write_result(
    path: Path,
    study: Study,
    run: Run,
    checkpoint: Path,
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
            "code": _code_versions(study, run, checkpoint),
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "wall_seconds": watch.seconds(),
            # kilobytes on Linux, bytes on macOS
            "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
        },
        path,
    )


def _code_versions(study: Study, run: Run, checkpoint: Path) -> dict[str, str]:
    """Of the evaluation and, where the checkpoint was trained here, of the training."""
    versions = evaluation_code(study, run).versions()
    if run.arm != BASE_ARM or checkpoint == study.retrained_path(run.base, run.base_seed):
        versions |= training_code(study, run).versions()
    return versions
