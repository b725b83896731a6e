"""Released checkpoints of VICReg, SwAV and SimSiam, as ``Checkpoint``s.

Every tensor of a file is accounted for: one that is missing, unexpected, misshapen or not finite
stops the conversion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from e2mc.checkpoints.checkpoint import Checkpoint, check_momentum
from e2mc.checkpoints.entries import (
    DDP,
    fill,
    has_tensors,
    is_weights,
    kept_of,
    rename,
    under,
    weights_in,
)
from e2mc.checkpoints.reading import CheckpointError, read_tensors
from e2mc.methods import Method, create_method
from e2mc.models import create_backbone
from e2mc.optim import OptimizerSpec, create_optimizer
from e2mc.state import sha256


@dataclass(frozen=True)
class ReleasedFormat:
    """How a method's official code writes its checkpoints.

    Attributes:
        method: name in ``e2mc.methods.METHODS``.
        entries: where in the file the weights may be; None: the file is nothing but the weights.
        prefixes: (prefix of the file's keys without ``module.``, ours); the first match counts.
        lars: whether the file's optimizer is the official LARS, whose momentum is restored when
            pre-training goes on, as the official code does.
    """

    method: str
    entries: tuple[str | None, ...]
    prefixes: tuple[tuple[str, str], ...]
    lars: bool = False


FORMATS = {
    # main_vicreg.py: {epoch, model, optimizer}
    "vicreg": ReleasedFormat(
        "vicreg", ("model",), (("backbone.", "backbone."), ("projector.", "projector.")), lars=True
    ),
    # swav_*_pretrain.pth.tar: the weights alone; main_swav.py: {epoch, state_dict, optimizer, amp},
    # of which nothing but the weights is restored
    "swav": ReleasedFormat(
        "swav",
        (None, "state_dict"),
        (("projection_head.", "projector."), ("prototypes.", "prototypes."), ("", "backbone.")),
    ),
    # main_simsiam.py: {epoch, arch, state_dict, optimizer}; nothing restores the optimizer
    "simsiam": ReleasedFormat(
        "simsiam",
        ("state_dict",),
        (("encoder.fc.", "projector."), ("encoder.", "backbone."), ("predictor.", "predictor.")),
    ),
}


def convert_released(
    path: Path,
    format: str,
    *,
    backbone: str,
    method_params: Mapping[str, Any],
    epochs: int | None = None,
) -> Checkpoint:
    """Converts a file in a method's official format.

    Args:
        path: the file.
        format: key of ``FORMATS``.
        backbone: name of the backbone it holds.
        method_params: the arguments that build the method's heads.
        epochs: how long it was pre-trained; needed where the file does not say.

    Returns:
        The checkpoint, with the optimizer's state where the official code restores it.

    Raises:
        CheckpointError: when the file is not in that format, a tensor does not fit, or the epochs
            are not known or not those of the file.
    """
    official = FORMATS[format]
    content = read_tensors(path)
    entry = _entry(content, official)
    weights, _ = weights_in(content, entry, f"{path} is not a released {format} checkpoint")
    parallel = DDP if any(key.startswith(DDP) for key in weights) else ""
    prefixes = [(parallel + theirs, ours) for theirs, ours in official.prefixes]
    renamed = rename(weights, prefixes, path)
    method = create_method(official.method, create_backbone(backbone, 3), **method_params)
    fill(
        method,
        {ours: weights[key] for ours, key in renamed.items()},
        prefixes,
        f"method {official.method}, read from {path}",
        _advice(format, entry, weights),
    )
    momentum, settings = None, None
    if official.lars:
        momentum, settings = _lars_state(content, list(renamed), method, path)
    return Checkpoint(
        backbone=backbone,
        in_channels=3,
        method=official.method,
        method_params=dict(method_params),
        model=kept_of(method),
        epochs=_epochs(None if entry is None else content.get("epoch"), epochs, path),
        optimizer=momentum,
        provenance={
            "released": format,
            "sha256": sha256(path),
            "optimizer_settings": settings,
        },
    )


def formats_of(entry: str | None, keys: Iterable[str]) -> list[str] | None:
    """The official formats in which a file may be, by its entry and the beginnings of its keys."""
    bare = [key.removeprefix(DDP) for key in keys]
    possible = [
        name
        for name, official in FORMATS.items()
        if entry in official.entries
        and all(any(key.startswith(theirs) for key in bare) for theirs, _ in official.prefixes)
    ]
    return possible or None


def _advice(format: str, entry: str | None, keys: Iterable[str]) -> str:
    """What to do with a file whose keys are not those of a format."""
    keys = list(keys)
    others = formats_of(entry, keys) or []
    if others and format not in others:
        return f"its keys are those of {' or '.join(others)}: set format"
    first = {key.partition(".")[0] for key in keys}
    if len(first) == 1 and first != {DDP.rstrip(".")}:
        prefix = first.pop() + "."
        return f"all its keys begin with {prefix!r}: take it as a checkpoint of kind own, with keys"
    return ""


def _entry(content: Any, official: ReleasedFormat) -> str | None:
    """Where the weights are: nothing but tensors is better than some."""
    for fits in (is_weights, has_tensors):
        for entry in official.entries:
            if fits(content if entry is None else under(content, entry)):
                return entry
    return official.entries[0]


def _epochs(said: int | None, epochs: int | None, path: Path) -> int:
    """How long a file was pre-trained: as it says, as the study says, and both the same."""
    if epochs is None:
        if not isinstance(said, int):
            raise CheckpointError(
                f"{path} does not say for how many epochs it was pre-trained: give epochs in the "
                "study"
            )
        return said
    if said not in (None, epochs):
        raise CheckpointError(
            f"{path} says it was pre-trained for {said} epochs, the study says {epochs}: "
            "correct one or leave epochs out"
        )
    return epochs


def _lars_state(
    content: Any, keys: list[str], method: Method, path: Path
) -> tuple[dict[str, Any], dict[str, float]]:
    """The momentum of the official LARS for ours, and the settings it was saved with.

    An optimizer's state numbers the parameters in the order of the model's, which is that of its
    state dict's keys (here under our names).
    """
    state = content.get("optimizer")
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        raise CheckpointError(
            f"{path} has no optimizer state: use the full checkpoint, not the backbone alone"
        )
    parameters = dict(method.named_parameters())
    names = [key for key in keys if key in parameters]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    if len(numbers) != len(names):
        raise CheckpointError(
            f"the optimizer state in {path} is of {len(numbers)} parameters, its model has "
            f"{len(names)}"
        )
    momentum: dict[str, Tensor] = {}
    problems = []
    for name, number in zip(names, numbers, strict=True):
        found = state["state"].get(number, {}).get("mu")
        if found is None:
            problems.append(f"{name} has no momentum 'mu'")
        elif found.shape != parameters[name].shape:
            problems.append(
                f"{name} has momentum of shape {tuple(found.shape)} instead of "
                f"{tuple(parameters[name].shape)}"
            )
        else:
            momentum[name] = found
    if problems:
        raise CheckpointError(f"the optimizer state in {path} does not fit: " + "; ".join(problems))
    check_momentum(
        {name: {"mu": value} for name, value in momentum.items()}, f"the optimizer state in {path}"
    )
    optimizer = create_optimizer(OptimizerSpec("lars", lr=1.0), method.parameter_groups())
    name_of = {id(parameter): name for name, parameter in parameters.items()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    restored = optimizer.state_dict()
    restored["state"] = {
        number: {"mu": momentum[name_of[id(parameter)]]} for number, parameter in enumerate(ordered)
    }
    saved = state["param_groups"][0]
    settings = {
        key: float(saved[key]) for key in ("lr", "weight_decay", "momentum", "eta") if key in saved
    }
    return restored, settings
