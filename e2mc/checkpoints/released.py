"""Released checkpoints of VICReg, SwAV and SimSiam, and files of one's own, as ``Checkpoint``s.

Every tensor of a file is accounted for: one that is missing, unexpected or misshapen stops the
conversion, and all of them are named. Files are read with ``weights_only=True``; the only name that
a pickle may refer to is the filter function in VICReg's optimizer.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2mc.checkpoints.checkpoint import (
    FORMAT,
    Checkpoint,
    CheckpointError,
    load_strictly,
    read_tensors,
)
from e2mc.errors import InputError
from e2mc.methods import Method, create_method
from e2mc.models import create_backbone
from e2mc.optim import OptimizerSpec, create_optimizer
from e2mc.state import sha256

DDP = "module."  # what DistributedDataParallel puts before every key
UNKNOWN = "?"  # before a key that belongs nowhere


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


@dataclass(frozen=True)
class KeyMap:
    """Where the weights are in a file of one's own, and what its keys are called here.

    Attributes:
        entry: key of the file under which the weights are; None when the file is the weights.
        prefixes: prefix of the file's keys -> ours, the longest match counts. Ours begin with
            ``backbone.`` or with the name of one of the method's heads, such as ``projector.``.
        drop: prefixes of keys that are left out, e.g. a classifier's.
    """

    entry: str | None = None
    prefixes: dict[str, str] = field(default_factory=lambda: {"": "backbone."})
    drop: tuple[str, ...] = ()

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.prefixes:
            raise InputError("prefixes is empty: map at least one prefix, e.g. {'': 'backbone.'}")


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
    content = _read(path)
    complaint = f"{path} is not a released {format} checkpoint"
    entry = next((e for e in official.entries if _holds(content, e)), official.entries[0])
    weights = _entry(content, entry, complaint)
    parallel = DDP if any(key.startswith(DDP) for key in weights) else ""
    prefixes = [(parallel + theirs, ours) for theirs, ours in official.prefixes]
    renamed = _rename(weights, prefixes, path)
    method = create_method(official.method, create_backbone(backbone, 3), **method_params)
    _fill(method, {ours: weights[key] for ours, key in renamed.items()}, path, prefixes, official)
    momentum, settings = None, None
    if official.lars:
        momentum, settings = _lars_state(content, list(renamed), method, path)
    return Checkpoint(
        backbone=backbone,
        in_channels=3,
        method=official.method,
        method_params=dict(method_params),
        model=_model(method),
        epochs=_epochs(None if entry is None else content.get("epoch"), epochs, path),
        optimizer=momentum,
        provenance={
            "released": format,
            "sha256": sha256(path),
            "optimizer_settings": settings,
        },
    )


def convert_own(
    path: Path,
    keys: KeyMap,
    *,
    backbone: str,
    in_channels: int,
    method: str,
    method_params: Mapping[str, Any],
    epochs: int = 0,
    seed: int = 0,
) -> Checkpoint:
    """Converts a state dict of one's own; heads that it lacks are created fresh, and said so.

    Args:
        path: a file of ``torch.save``, or one in Hugging Face's format, ``.safetensors``.
        keys: where its weights are and how they are called.
        backbone: name of the backbone.
        in_channels: channels of the images.
        method: name of the method that will go on with it.
        method_params: the arguments that build the method's heads.
        epochs: how long it was pre-trained.
        seed: decides the weights of fresh heads.

    Raises:
        CheckpointError: when a tensor does not fit, or a head is there in part.
    """
    content = _read(path)
    found = _entry(content, keys.entry, f"{path} cannot be converted")
    dropped = sorted(key for key in found if key.startswith(keys.drop))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = create_method(method, create_backbone(backbone, in_channels), **method_params)
    inner = "backbone." + getattr(made.backbone, "key_prefix", "")
    prefixes = [
        (theirs, inner + ours.removeprefix("backbone.") if ours.startswith("backbone.") else ours)
        for theirs, ours in sorted(keys.prefixes.items(), key=lambda pair: -len(pair[0]))
    ]
    kept = {key: value for key, value in found.items() if key not in dropped}
    weights = {ours: kept[key] for ours, key in _rename(kept, prefixes, path).items()}
    there = {key.partition(".")[0] for key in weights}
    fresh = {
        key: value
        for key, value in made.state_dict().items()
        if key.partition(".")[0] not in {"backbone", *there}
    }
    _fill(made, weights | fresh, path, prefixes, None)
    heads = sorted({key.partition(".")[0] for key in fresh} - set(made.run_state))
    if heads:
        print(
            f"{path} has no {' and no '.join(heads)}: created fresh with seed {seed}",
            file=sys.stderr,
        )
    if dropped:
        print(f"{path}: left out as the study says: {', '.join(dropped)}", file=sys.stderr)
    return Checkpoint(
        backbone=backbone,
        in_channels=in_channels,
        method=method,
        method_params=dict(method_params),
        model=_model(made),
        epochs=epochs,
        provenance={"own": sha256(path), "fresh": heads, "dropped": dropped},
    )


def inspect_checkpoint(path: str | Path) -> dict[str, Any]:
    """What is in a checkpoint file of any of the formats, as plain values.

    Returns:
        "format" (this package's, those of ``FORMATS`` that its keys fit, or None), "size" in
        bytes, "sha256", "entries" (the file's keys and what is under them), "epochs" if the file
        says, "tensors" and "parameters" (numbers of them) and "prefixes" (tensors per first part
        of the keys); for this package's format also "backbone", "method", "method_params",
        "optimizer" and "provenance".

    Raises:
        CheckpointError: when the file cannot be read.
    """
    path = Path(path)
    content = _read(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no dictionary but a {type(content).__name__}")
    ours = content.get("format") == FORMAT
    entry = next((key for key in ("model", "state_dict") if _is_weights(content.get(key))), None)
    weights = content if entry is None else content[entry]
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    summary: dict[str, Any] = {
        "format": FORMAT if ours else _guess(entry, tensors),
        "size": path.stat().st_size,
        "sha256": sha256(path),
        "entries": {"(weights)": "tensors"}
        if entry is None
        else {str(key): _kind(value) for key, value in content.items()},
        "epochs": content.get("epochs" if ours else "epoch"),
        "tensors": len(tensors),
        "parameters": sum(
            tensor.numel()
            for key, tensor in tensors.items()
            if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ),
        "prefixes": dict(
            Counter(key.removeprefix(DDP).partition(".")[0] for key in tensors).most_common()
        ),
    }
    if ours:
        summary |= {key: content[key] for key in ("backbone", "method", "method_params")}
        summary |= {"optimizer": content["optimizer"] is not None}
        summary |= {"provenance": content["provenance"]}
    return summary


def exclude_bias_and_norm(parameter: Tensor) -> bool:
    """The filter that VICReg's optimizer state names; its state is read, this is never called."""
    return parameter.ndim == 1


def _read(path: Path) -> Any:
    if Path(path).suffix == ".safetensors":
        return _read_safetensors(path)
    return read_tensors(path, [(exclude_bias_and_norm, "__main__.exclude_bias_and_norm")])


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """A file of Hugging Face's format, which holds nothing but named tensors."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path} needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error


def _is_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def _holds(content: Any, entry: str | None) -> bool:
    return isinstance(content, Mapping) and _is_weights(
        content if entry is None else content.get(entry)
    )


def _entry(content: Any, entry: str | None, complaint: str) -> Mapping[str, Tensor]:
    """The weights in a file, or CheckpointError that says what is there instead."""
    if _holds(content, entry):
        return content if entry is None else content[entry]
    if isinstance(content, Mapping):
        there = ", ".join(f"{key} ({_kind(value)})" for key, value in list(content.items())[:8])
    else:
        there = f"a {type(content).__name__}"
    wanted = "nothing but tensors" if entry is None else f"a dictionary of tensors under {entry!r}"
    raise CheckpointError(f"{complaint}: expected {wanted}, found {there or 'nothing'}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, Mapping):
        return "tensors" if _is_weights(value) else "dictionary"
    return type(value).__name__


def _rename(
    weights: Mapping[str, Tensor], prefixes: list[tuple[str, str]], path: Path
) -> dict[str, str]:
    """Our name of each key -> the file's; one that no prefix matches gets a name that nothing has.

    Raises CheckpointError when two keys get the same name.
    """
    renamed: dict[str, str] = {}
    for key in weights:
        match = next((pair for pair in prefixes if key.startswith(pair[0])), None)
        ours = UNKNOWN + key if match is None else match[1] + key.removeprefix(match[0])
        if ours in renamed:
            raise CheckpointError(f"{path}: {renamed[ours]} and {key} would both become {ours}")
        renamed[ours] = key
    return renamed


def _fill(
    method: Method,
    weights: dict[str, Tensor],
    path: Path,
    prefixes: list[tuple[str, str]],
    official: ReleasedFormat | None,
) -> None:
    """Loads all weights; the error calls them what the file calls them."""

    def name_in_file(key: str) -> str:
        for theirs, ours in prefixes:
            if key.startswith(ours):
                return theirs + key.removeprefix(ours)
        return key.removeprefix(UNKNOWN)

    run_state = {key: method.state_dict()[key] for key in method.run_state}
    name = type(method).__name__ if official is None else official.method
    load_strictly(method, weights | run_state, f"method {name}, read from {path}", name_in_file)


def _model(method: Method) -> dict[str, Tensor]:
    """What a checkpoint keeps: everything that does not belong to a run."""
    state = method.state_dict()
    return {key: value for key, value in state.items() if key not in method.run_state}


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


def _guess(entry: str | None, tensors: Mapping[str, Tensor]) -> list[str] | None:
    """The official formats in which a file may be, by its entry and the beginnings of its keys."""
    bare = [key.removeprefix(DDP) for key in tensors]
    possible = [
        name
        for name, official in FORMATS.items()
        if entry in official.entries
        and all(any(key.startswith(theirs) for key in bare) for theirs, _ in official.prefixes)
    ]
    return possible or None
