"""What decides the checkpoint of a run, in plain values, and whether a file was made with them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.data.images import read_digest
from e2mc.errors import InputError
from e2mc.study import BASE_ARM, Run, ShippedCheckpoint, Study, load_study
from e2mc.task import Task, expect_made_for, plain


def named_run(task: Task) -> tuple[Study, Run]:
    """The study and the run that a task names."""
    names = {name: task.arguments[name] for name in ("base", "arm", "seeds")}
    return load_study(task.arguments["study"]), Run.parse(**names)


def training_values(study: Study, run: Run) -> dict[str, Any]:
    """What decides the checkpoint that a run's training writes, apart from files that a rule made.

    Raises InputError for a base without a pretraining recipe.
    """
    values = {
        **study.training_spec(run).values(),
        "images": study.training_images(run),
        "data": study.data.decides_training(),
    }
    return values if run.arm == BASE_ARM else values | _shipped_values(study, run)


def checkpoint_values(study: Study, run: Run) -> dict[str, Any]:
    """What decides the checkpoint of a run: its training, or the file that a base comes from.

    Where config.yaml has a base with a file trained all the same, its new file tells the rules.
    """
    base = study.bases[run.base]
    if run.arm != BASE_ARM:
        return training_values(study, run)
    if base.converted:
        return conversion_values(study, run.base)
    trained = {} if base.pretraining is None else training_values(study, run)
    return trained | _shipped_values(study, run)


def conversion_values(study: Study, base: str) -> dict[str, Any]:
    """What decides the checkpoint of a base that comes from a file, apart from the file."""
    checkpoint = study.bases[base].checkpoint
    assert checkpoint is not None
    # where a file comes from makes no difference where it is known by its hash
    place = {"archive", "url"} if getattr(checkpoint, "sha256", None) else {"archive"}
    return {
        "checkpoint": checkpoint.model_dump(mode="json", exclude=place),
        "backbone": study.backbone,
        "method": dataclasses.asdict(study.method(base)),
    }


def _shipped_values(study: Study, run: Run) -> dict[str, Any]:
    """The file of a shipped base, whose time tells the rules nothing."""
    checkpoint = study.bases[run.base].checkpoint
    if not isinstance(checkpoint, ShippedCheckpoint):
        return {}
    return {"shipped": checkpoint.sha256.get(run.base_seed)}


def expect_checkpoint_of(study: Study, run: Run, path: Path, checkpoint: Checkpoint) -> None:
    """Raises InputError where a file is not the checkpoint of a run that the study asks for."""
    expect_images(study, path, checkpoint.provenance.get("images", {}))
    if path == study.trained_path(run):
        expect_made_for(path, checkpoint.made_with, plain(training_values(study, run)))
    elif path == study.converted_path(run.base):
        expect_made_for(path, checkpoint.made_with, plain(conversion_values(study, run.base)))
    # else it is shipped, and its hash has been checked


def expect_images(study: Study, path: Path, made_from: Mapping[str, str]) -> None:
    """Raises InputError where a file was made from other images than there are now.

    Args:
        study: whose data sets; those that are not here are no difference.
        path: the file.
        made_from: data set -> digest of its images, see ``e2mc.data.images.content_digest``.
    """
    for name, digest in made_from.items():
        dataset = study.dataset_path(name)
        if dataset.exists() and _digest(dataset, dataset.stat().st_mtime_ns) != digest:
            raise InputError(
                f"{path} was made from other images than {dataset} lists: delete it and run again"
            )


@functools.cache
def _digest(dataset: Path, _: int) -> str:
    """Of a file as it was at a time."""
    return read_digest(dataset)
