"""Checkpoints in this package's own format: one dictionary of plain values and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2mc.checkpoints.reading import CheckpointError, read_tensors
from e2mc.checkpoints.weights import load_strictly, non_finite
from e2mc.methods import Method, create_method
from e2mc.models import create_backbone
from e2mc.models.backbone import Backbone
from e2mc.state import save_atomically

FORMAT = "e2mc-1"


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained model.

    Attributes:
        backbone: name in ``e2mc.models.BACKBONES``, or of another library's network.
        in_channels: channels of the images.
        method: name in ``e2mc.methods.METHODS``.
        method_params: the arguments that built the method's heads.
        model: state dict of the whole method; the backbone's keys begin with ``backbone.``.
        epochs: epochs of pre-training so far, continued ones included.
        optimizer: state dict of the optimizer, or None when it is not to be restored.
        provenance: what produced the file: specs, seeds, versions.
        path: the file that it was read from, for errors; not saved.
    """

    backbone: str
    in_channels: int
    method: str
    method_params: dict[str, Any]
    model: dict[str, Tensor]
    epochs: int
    optimizer: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)

    @property
    def made_with(self) -> dict[str, Any] | None:
        """The values that decided it; None where it does not say, such as a shipped one."""
        return self.provenance.get("made_with")

    def save(self, path: Path) -> None:
        content = {name: getattr(self, name) for name in SAVED}
        save_atomically({"format": FORMAT, **content}, path)

    def load_backbone(self) -> Backbone:
        """The backbone with its weights, in evaluation mode; nothing else is read of the file."""
        backbone = create_backbone(self.backbone, self.in_channels)
        prefix = "backbone."
        weights = {
            key.removeprefix(prefix): value
            for key, value in self.model.items()
            if key.startswith(prefix)
        }
        load_strictly(backbone, weights, f"backbone {self.backbone}{self._origin}")
        return backbone.to(memory_format=torch.channels_last).eval()

    def load_method(self) -> Method:
        """The method with backbone, heads and their weights, on the CPU.

        What belongs to a run and not to the model, such as a queue, is as in a new run.

        Raises:
            CheckpointError: when a weight is missing, unexpected, of another shape or not finite.
        """
        backbone = create_backbone(self.backbone, self.in_channels)
        method = create_method(self.method, backbone, **self.method_params)
        self.load_into(method)
        return method.to(memory_format=torch.channels_last)

    def load_into(self, method: Method) -> None:
        """Loads the weights into a method; what belongs to a run stays as it is.

        Raises:
            CheckpointError: as ``load_method``.
        """
        fresh = method.state_dict()
        run_state = {key: fresh[key] for key in method.run_state}
        load_strictly(method, self.model | run_state, f"method {self.method}{self._origin}")

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state.

        Raises:
            CheckpointError: when there is none, or values in it are not finite.
        """
        if self.optimizer is None:
            raise CheckpointError(
                "restore_optimizer is set, but the checkpoint to go on from holds no optimizer "
                "state: make it with keep_optimizer, or unset restore_optimizer"
            )
        check_momentum(self.optimizer["state"], f"the optimizer state{self._origin}")
        return self.optimizer

    @property
    def _origin(self) -> str:
        return "" if self.path is None else f", read from {self.path}"


SAVED = tuple(entry.name for entry in fields(Checkpoint) if entry.name != "path")
REQUIRED = {"backbone", "in_channels", "method", "method_params", "model", "epochs"}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint that ``Checkpoint.save`` wrote, on the CPU.

    The tensors stay in the file until they are used; their values are checked then.

    Raises CheckpointError when the file is missing, damaged, in another format, or a pickle of
    more than tensors and plain values.
    """
    content = read_tensors(path, mapped=True)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} is not in this package's format: expected a dictionary with "
            f"format = {FORMAT!r}; convert a file of another program with `e2mc checkpoint convert`"
        )
    faults = [f"{name} is missing" for name in sorted(REQUIRED - content.keys())]
    faults += [f"{name} is unknown" for name in sorted(map(str, content.keys() - {*SAVED}))]
    model = content.get("model", {})
    if not isinstance(model, Mapping):
        faults.append(f"model is a {type(model).__name__}, expected a dictionary of tensors")
    else:
        faults += [
            f"model: {key} is a {type(value).__name__}, expected a tensor"
            for key, value in model.items()
            if not isinstance(value, Tensor)
        ]
    if faults:
        raise CheckpointError(
            f"checkpoint {path} is not as this package writes them: {'; '.join(faults[:4])}"
        )
    return replace(Checkpoint(**content), path=Path(path))


def check_momentum(state: Mapping[Any, Mapping[str, Any]], what: str) -> None:
    """Raises CheckpointError unless every tensor in an optimizer's state is finite.

    Args:
        state: number or name of a parameter -> what is remembered of it.
        what: what the state is called in an error.
    """
    bad = [
        f"{name} of parameter {number}"
        for number, kept in state.items()
        for name in non_finite({k: v for k, v in kept.items() if isinstance(v, Tensor)})
    ]
    if bad:
        more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
        raise CheckpointError(
            f"{what} has values that are NaN or infinite: {', '.join(bad[:4])}{more}; unset "
            "restore_optimizer, or use a file from before the fault"
        )


__all__ = ["FORMAT", "Checkpoint", "CheckpointError", "check_momentum", "load_checkpoint"]
