"""Weights into a module: every name, shape, type and value is checked before any is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from e2mc.checkpoints.architecture import architecture_of
from e2mc.checkpoints.reading import CheckpointError

# converted to the module's float32 when they are loaded
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
SHOWN = 4  # names of each kind of fault
COUNTER = "num_batches_tracked"  # of batch norm, which torch fills in where a file lacks it


def load_strictly(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    what: str,
    name_in_file: Callable[[str], str] = str,
    advice: str = "",
) -> None:
    """Loads every weight, or raises CheckpointError that says what does not fit.

    Floating weights may be float64, float32, bfloat16 or float16 and must be finite; a variance of
    batch norm must not be negative. A batch norm's counter that is missing, as in files of old
    programs, stays as it is.

    Args:
        module: what to load into.
        weights: its state dict.
        what: what the module is called in an error.
        name_in_file: what a key of the module is called where the weights come from.
        advice: what to do about names that do not fit, if they are of the same architecture.
    """
    expected = module.state_dict()
    counters = {
        key: value
        for key, value in expected.items()
        if key.rpartition(".")[2] == COUNTER and key not in weights
    }
    weights = {**weights, **counters}
    missing = [f"{name_in_file(key)} is missing" for key in expected.keys() - weights.keys()]
    unexpected = [f"{name_in_file(key)} is unexpected" for key in weights.keys() - expected.keys()]
    misshapen = [
        f"{name_in_file(key)} has shape {tuple(weights[key].shape)} instead of "
        f"{tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if missing or unexpected or misshapen:
        faults = [_first(sorted(names)) for names in (missing, unexpected, misshapen) if names]
        # of another network parts may fit, but to go on with them would be a mistake
        hint = _architectures(weights, expected) or advice
        raise CheckpointError(
            f"weights do not fit the {what} ({len(missing)} of {len(expected)} tensors missing, "
            f"{len(unexpected)} unexpected, {len(misshapen)} misshapen): "
            + "; ".join([*faults, *filter(None, [hint])])
        )
    unusable = sorted(
        f"{name_in_file(key)} {fault}"
        for key, value in weights.items()
        if (fault := _fault(key, value, expected[key]))
    )
    if unusable:
        raise CheckpointError(
            f"weights cannot be used in the {what} ({len(unusable)} of {len(expected)} tensors): "
            f"{_first(unusable)}; use a file from before the fault"
        )
    module.load_state_dict(weights)


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that cannot go on: with values that are no finite real numbers."""
    return sorted(name for name, value in tensors.items() if _fault(name, value, value))


def _fault(key: str, found: Tensor, expected: Tensor) -> str | None:
    """Why a tensor of the right shape cannot be used, as the end of a sentence on it."""
    if found.is_quantized or found.layout != torch.strided:
        return "is quantised or sparse, expected a dense tensor of real numbers"
    if found.is_meta:
        return "has no values, as it was saved from the device 'meta'"
    dtype = str(found.dtype).removeprefix("torch.")
    name = key.rpartition(".")[2]
    if expected.dtype.is_floating_point:
        if found.dtype not in FLOATS:
            return f"is {dtype}, expected float32, float64, bfloat16 or float16"
        values = found.to(expected.dtype)  # a float64 may be too large for float32
        if not values.isfinite().all():
            bad = values.numel() - int(values.isfinite().sum())
            return f"has {bad} values that are NaN or infinite"
        if name == "running_var" and (values < 0).any():
            return "has negative variances"
    elif expected.dtype in INTEGERS:
        # programs that average weights leave counters as floats
        whole = found.dtype in INTEGERS or (
            found.dtype in FLOATS and bool((found.isfinite() & (found == found.round())).all())
        )
        if not whole:
            return f"is {dtype}, expected whole numbers"
        if name == COUNTER and (found < 0).any():
            return "is negative"
    elif found.dtype != expected.dtype:
        return f"is {dtype}, expected {str(expected.dtype).removeprefix('torch.')}"
    return None


def _architectures(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """What the weights look like, if that is another architecture than the expected one."""
    found, wanted = architecture_of(weights), architecture_of(expected)
    if found is None or found == wanted:
        return None
    return f"the weights look like {found}" + ("" if wanted is None else f", expected {wanted}")


def _first(names: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    names = list(names)
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
