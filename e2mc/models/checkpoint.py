"""Checkpoints in this package's own format: one dictionary of plain values and tensors.

The files load with ``weights_only=True``; a pickle that asks for anything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2mc.models import create_backbone
from e2mc.state import save_atomically


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with the file and the reason in one sentence."""


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained model.

    Attributes:
        backbone: name in ``e2mc.models.BACKBONES``.
        in_channels: channels of the images.
        method: name in ``e2mc.methods.METHODS``.
        method_params: the arguments that built the method's heads.
        model: state dict of the whole method; the backbone's keys begin with ``backbone.``.
        epochs: epochs of pre-training so far, continued ones included.
        optimizer: state dict of the optimizer, or None when it is not to be restored.
        provenance: what produced the file: specs, seeds, versions.
    """

    backbone: str
    in_channels: int
    method: str
    method_params: dict[str, Any]
    model: dict[str, Tensor]
    epochs: int
    optimizer: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        save_atomically({"format": "e2mc-1", **content}, path)

    def load_backbone(self) -> nn.Module:
        """The backbone with its weights, in evaluation mode."""
        backbone = create_backbone(self.backbone, self.in_channels)
        prefix = "backbone."
        weights = {
            key.removeprefix(prefix): value
            for key, value in self.model.items()
            if key.startswith(prefix)
        }
        load_strictly(backbone, weights, f"backbone {self.backbone}")
        return backbone.to(memory_format=torch.channels_last).eval()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint that ``Checkpoint.save`` wrote, on the CPU.

    Raises CheckpointError when the file is missing, damaged, in another format, or a pickle of
    more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or holds more than tensors and plain values, and was "
            f"not loaded: {str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or not a PyTorch file: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(content, dict) or content.pop("format", None) != "e2mc-1":
        raise CheckpointError(
            f"checkpoint {path} is not in this package's format: expected a dictionary with "
            "format = 'e2mc-1'"
        )
    return Checkpoint(**content)


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads every weight, or raises CheckpointError that names each one that does not fit."""
    expected = module.state_dict()
    problems = [f"{key} is missing" for key in expected.keys() - weights.keys()]
    problems += [f"{key} is unexpected" for key in weights.keys() - expected.keys()]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if problems:
        raise CheckpointError(f"weights do not fit the {what}: " + "; ".join(sorted(problems)))
    module.load_state_dict(weights)


__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "load_strictly"]
