"""Pre-training and continued pre-training of one run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.criteria import CRITERIA
from e2mc.data.images import Splits, read_digest
from e2mc.data.source import ImageSource
from e2mc.data.subsets import stratified_split
from e2mc.methods import METHODS
from e2mc.steps.code import code_of
from e2mc.steps.decides import expect_checkpoint_of, named_run, training_values
from e2mc.steps.device import resolve_device
from e2mc.study import BASE_ARM, Run, Study
from e2mc.task import Task, plain
from e2mc.training.loop import Measure, pretrain


def training_task(
    study: Study,
    run: Run,
    start: Path | None,
    *,
    device: str = "auto",
    loggers: Sequence[str] = (),
) -> Task:
    """The training of a base (``start`` is None), or of a run that goes on from its base's file."""
    inputs = {"images": study.dataset_path("images")}
    return Task.of(
        "e2mc.steps.training:train",
        {"study": study.source, **run.names(), "device": device, "loggers": list(loggers)},
        inputs if start is None else inputs | {"checkpoint": start},
        training_outputs(study, run),
        training_values(study, run) | _instrument_values(study),
        training_code(study, run),
    )


def training_outputs(study: Study, run: Any) -> dict[str, Path]:
    """What a run's training writes; the parts of the run may also be the wildcards of a rule."""
    outputs = {"checkpoint": study.trained_path(run), "log": study.log_path(run)}
    if study.information is not None:
        outputs["information"] = study.information_path(run)
    return outputs


def training_code(study: Study, run: Run) -> dict[str, str]:
    """The code that trains a run."""
    spec = study.training_spec(run)
    criteria = [CRITERIA[criterion.name] for criterion in spec.criteria]
    instrument = [] if study.information is None else [type(study.instrument)]
    return code_of("steps/training.py", "models", METHODS[spec.method.name], *criteria, *instrument)


def _instrument_values(study: Study) -> dict[str, Any]:
    """What decides information.csv besides the training."""
    return {} if study.information is None else {"instrument": study.instrument.values()}


def train(task: Task) -> None:
    """Pre-trains a base, or goes on from a checkpoint."""
    study, run = named_run(task)
    start = task.input("checkpoint") if "checkpoint" in task.inputs else None
    task.expect(training_task(study, run, start))
    training = Splits.load(task.input("images")).pretraining
    count = study.training_images(run)
    if count is not None:
        # drawn once per study, so that every arm and seed sees the same images
        training = training.subset(stratified_split(training.labels, count, seed=0)[1])
    checkpoint = None if start is None else load_checkpoint(start)
    if start is not None and checkpoint is not None:
        base = Run(run.base, BASE_ARM, run.base_seed, None)
        expect_checkpoint_of(study, base, start, checkpoint)
    device = resolve_device(task.arguments["device"])
    pretrain(
        study.training_spec(run),
        training,
        task.output("checkpoint"),
        start=checkpoint,
        device=device,
        what=" ".join(run.names().values()),
        log_every=20 if checkpoint is None else 1,
        loggers=task.arguments["loggers"],
        measure=_measure(study, run, training, device),
        identity=task.digest(),
        made_by={
            "made_with": plain(training_values(study, run)),
            "images": {"images": read_digest(task.input("images"))},
            "code": task.code,
        },
    )


def _measure(study: Study, run: Run, images: ImageSource, device: str) -> Measure | None:
    """What ``pretrain`` measures along a run, if the study has it measured."""
    if study.information is None:
        return None
    base = study.bases[run.base]
    return functools.partial(
        study.instrument.measure,
        images=images,
        recipes=base.views,
        normalisation=base.normalisation or study.data.normalisation,
        device=device,
    )
