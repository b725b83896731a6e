"""Checkpoints that were not trained here, and when they stand for a base."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path

from e2mc.checkpoints.checkpoint import Checkpoint, CheckpointError
from e2mc.checkpoints.download import Source, download
from e2mc.checkpoints.own import convert_own
from e2mc.checkpoints.released import convert_released
from e2mc.errors import InputError
from e2mc.methods import METHODS
from e2mc.state import sha256
from e2mc.steps.code import code_of
from e2mc.steps.decides import conversion_values
from e2mc.study import (
    BASE_ARM,
    BaseCheckpoints,
    OwnCheckpoint,
    ReleasedCheckpoint,
    Run,
    ShippedCheckpoint,
    Study,
    load_study,
)
from e2mc.task import Task, plain


def download_task(study: Study, base: str) -> Task:
    """Fetching the released checkpoint of a base."""
    released = study.bases[base].checkpoint
    if not isinstance(released, ReleasedCheckpoint):
        raise InputError(f"base {base!r} of study {study.name} is no released checkpoint")
    return Task.of(
        "e2mc.steps.checkpoints:download_base",
        {"study": study.source, "base": base},
        {},
        {"original": study.download_path(base)},
        {"sha256": released.sha256} if released.sha256 else {"url": released.url},
        {},  # whatever fetches it, it is checked
    )


def download_base(task: Task) -> None:
    """Fetches a released checkpoint and checks it."""
    study = load_study(task.arguments["study"])
    task.expect(download_task(study, task.arguments["base"]))
    fetch(study, task.arguments["base"], task.output("original"))


def fetch(study: Study, base: str, path: Path) -> Source:
    """Fetches the released checkpoint of a base, unless it is there, and says what it is."""
    released = study.bases[base].checkpoint
    assert isinstance(released, ReleasedCheckpoint)
    return download(released.url, path, archive=released.archive, expected_sha256=released.sha256)


def conversion_task(study: Study, base: str) -> Task:
    """Bringing the file of a base into this package's format."""
    checkpoint = study.bases[base].checkpoint
    if isinstance(checkpoint, OwnCheckpoint):
        original = Path(os.path.expanduser(checkpoint.path))
    elif isinstance(checkpoint, ReleasedCheckpoint):
        original = study.download_path(base)
    else:
        raise InputError(f"base {base!r} of study {study.name} needs no conversion")
    return Task.of(
        "e2mc.steps.checkpoints:convert_base",
        {"study": study.source, "base": base},
        {"original": original},
        {"checkpoint": study.converted_path(base)},
        conversion_values(study, base),
        code_of("steps/checkpoints.py", "models", METHODS[study.bases[base].method.name]),
    )


def convert_base(task: Task) -> None:
    """Brings a released checkpoint, or one of one's own, into this package's format."""
    study, base = load_study(task.arguments["study"]), task.arguments["base"]
    task.expect(conversion_task(study, base))
    converted = converted_base(study, base, task.input("original"))
    made = {"made_with": plain(conversion_values(study, base)), "code": task.code}
    provenance = converted.provenance | made
    dataclasses.replace(converted, provenance=provenance).save(task.output("checkpoint"))


def converted_base(study: Study, base: str, original: Path) -> Checkpoint:
    """The file of a base in this package's format."""
    item = study.bases[base]
    source = item.checkpoint
    params = study.method(base).params
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
        return converted
    assert isinstance(source, OwnCheckpoint)
    return convert_own(
        original,
        source.keys,
        backbone=study.backbone,
        in_channels=len(study.data.normalisation.mean),
        method=item.method.name,
        method_params=params,
        epochs=source.epochs,
        seed=source.head_seed,
    )


def base_checkpoint(
    study: Study,
    base: str,
    base_seed: int,
    policy: BaseCheckpoints,
    warn: Callable[[str], None],
) -> Path:
    """The file that stands for a base: a checkpoint that comes with it, or the one trained here.

    A base that has a recipe is trained for the seeds of which no checkpoint is shipped.

    Args:
        study: whose base it is.
        base: its name.
        base_seed: seed of its pre-training.
        policy: ``base_checkpoints`` of config.yaml.
        warn: is told why a base is to be trained although a checkpoint is shipped.

    Raises:
        CheckpointError: when a shipped checkpoint is not as it should be, and the base is not to
            be trained instead or cannot be.
    """
    item = study.bases[base]
    trained = study.trained_path(Run(base, BASE_ARM, base_seed, None))
    if item.trained_for(base_seed) or (policy == "retrain" and item.pretraining is not None):
        return trained
    if item.converted:
        return study.converted_path(base)
    try:
        return verify_shipped(study, base, base_seed)
    except CheckpointError as error:
        if item.pretraining is None:
            raise
        if policy == "shipped":
            advice = "or set base_checkpoints: shipped-or-retrain in config.yaml"
            raise CheckpointError(f"{error}, {advice}") from error
        warn(f"{error}. It is trained here now, as config.yaml says.")
        return trained


def verify_shipped(study: Study, base: str, base_seed: int) -> Path:
    """The file of a shipped base, which has the SHA-256 that the study names.

    Raises CheckpointError when the study names none for the seed, or the file is missing or
    another one.
    """
    shipped = study.bases[base].checkpoint
    assert isinstance(shipped, ShippedCheckpoint)
    if base_seed not in shipped.sha256:
        seeds = ", ".join(map(str, shipped.sha256)) or "none"
        raise CheckpointError(
            f"bases.{base}.checkpoint has no file for base seed {base_seed}, only for {seeds}: "
            "take the seed out of seeds.base"
        )
    path = Path(shipped.path.format(seed=base_seed))
    expected = shipped.sha256[base_seed]
    if not path.is_file():
        raise CheckpointError(f"shipped checkpoint {path} is missing: restore it (git checkout)")
    found = sha256(path)
    if found != expected:
        raise CheckpointError(
            f"shipped checkpoint {path} has SHA-256 {found}, the study names {expected}: restore "
            "it (git checkout)"
        )
    return path
