"""Pre-training and continued pre-training of one run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.images import Splits
from e2mc.data.source import ImageSource
from e2mc.data.subsets import stratified_split
from e2mc.evaluation.information import measure_method
from e2mc.identity import training_code, training_outputs_identity
from e2mc.state import fingerprint
from e2mc.steps.device import resolve_device
from e2mc.study import Run, Study
from e2mc.training.loop import Measure, pretrain


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
    decides = training_outputs_identity(study, run) | {"code": training_code(study, run).hash()}
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
        identity=fingerprint(decides),
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
