"""Checkpoints in this package's own format: one dictionary of plain values and tensors.

The files load with ``weights_only=True``; a pickle that asks for anything else is refused.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2mc.errors import InputError
from e2mc.methods import Method, create_method
from e2mc.models import create_backbone
from e2mc.models.backbone import Backbone
from e2mc.state import save_atomically

FORMAT = "e2mc-1"
# what torch and the unpickler raise for damaged files depends on where they are damaged
DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


class CheckpointError(InputError):
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

    @property
    def made_with(self) -> dict[str, Any] | None:
        """The values that decided it; None where it does not say, such as a shipped one."""
        return self.provenance.get("made_with")

    def save(self, path: Path) -> None:
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        save_atomically({"format": FORMAT, **content}, path)

    def load_backbone(self) -> Backbone:
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

    def load_method(self) -> Method:
        """The method with backbone, heads and their weights, on the CPU.

        What belongs to a run and not to the model, such as a queue, is as in a new run.

        Raises:
            CheckpointError: when a weight is missing, unexpected or of another shape.
        """
        backbone = create_backbone(self.backbone, self.in_channels)
        method = create_method(self.method, backbone, **self.method_params)
        fresh = method.state_dict()
        run_state = {key: fresh[key] for key in method.run_state}
        load_strictly(method, self.model | run_state, f"method {self.method}")
        return method.to(memory_format=torch.channels_last)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint that ``Checkpoint.save`` wrote, on the CPU.

    Raises CheckpointError when the file is missing, damaged, in another format, or a pickle of
    more than tensors and plain values.
    """
    content = read_tensors(path, mapped=True)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} is not in this package's format: expected a dictionary with "
            f"format = {FORMAT!r}"
        )
    return Checkpoint(**content)


def read_tensors(
    path: str | Path, allowed: Sequence[tuple[Any, str]] = (), *, mapped: bool = False
) -> Any:
    """What a file of ``torch.save`` holds, on the CPU, if that is tensors and plain values.

    Args:
        path: the file.
        allowed: what else a pickle may name, as pairs of what it is to get instead and the name.
        mapped: leave the tensors in the file until they are used: an evaluation reads the backbone
            of a checkpoint whose heads and momentum are many times larger.

    Raises:
        CheckpointError: when the file is missing, damaged, or a pickle that asks for anything else.
    """
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or holds more than tensors and plain values, and was "
            f"not loaded: {_why(error)}"
        ) from error
    except DAMAGED as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or not a PyTorch file: {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    """What torch's many lines say is wrong: the forbidden name, or the first line."""
    text = str(error)
    found = re.search(r"GLOBAL (\S+)", text)
    if found:
        return f"it asks for {found[1]}"
    return text.splitlines()[0] if text else type(error).__name__


def load_strictly(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    what: str,
    name_in_file: Callable[[str], str] = str,
) -> None:
    """Loads every weight, or raises CheckpointError that names each one that does not fit.

    Args:
        module: what to load into.
        weights: its state dict.
        what: what the module is called in an error.
        name_in_file: what a key of the module is called where the weights come from.
    """
    expected = module.state_dict()
    missing = [f"{name_in_file(key)} is missing" for key in expected.keys() - weights.keys()]
    unexpected = [f"{name_in_file(key)} is unexpected" for key in weights.keys() - expected.keys()]
    misshapen = [
        f"{name_in_file(key)} has shape {tuple(weights[key].shape)} instead of "
        f"{tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if missing or unexpected or misshapen:
        raise CheckpointError(
            f"weights do not fit the {what} ({len(missing)} of {len(expected)} tensors missing, "
            f"{len(unexpected)} unexpected, {len(misshapen)} misshapen): "
            + "; ".join(sorted(missing + unexpected + misshapen))
        )
    module.load_state_dict(weights)
