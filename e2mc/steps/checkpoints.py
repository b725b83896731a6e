"""Checkpoints that were not trained here."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from e2mc.identity import conversion_identity
from e2mc.models.checkpoint import CheckpointError
from e2mc.models.released import convert_own, convert_released
from e2mc.state import sha256
from e2mc.study import OwnCheckpoint, ReleasedCheckpoint, Study


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
