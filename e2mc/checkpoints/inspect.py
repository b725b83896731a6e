"""What is in a checkpoint file of any of the formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from e2mc.checkpoints.architecture import architecture_of
from e2mc.checkpoints.checkpoint import FORMAT
from e2mc.checkpoints.entries import DDP, has_tensors, kind_of, main_entry, places, under
from e2mc.checkpoints.reading import CheckpointError, read_tensors
from e2mc.checkpoints.released import formats_of
from e2mc.checkpoints.weights import non_finite
from e2mc.state import sha256


def inspect_checkpoint(path: str | Path) -> dict[str, Any]:
    """What is in a checkpoint file, as plain values.

    Returns:
        "format" (this package's, those of ``FORMATS`` that its keys fit, or None), "size" in
        bytes, "sha256", "entries" (the file's keys and what is under them, and the paths of nested
        weights), "weights" (the entry that is described; "(weights)": the file itself), "epochs" if
        the file says, "tensors" and "parameters" (numbers of them), "prefixes" (tensors per first
        part of the keys), "architecture" (what the weights look like, or None) and "not finite"
        (names of tensors that have NaN or infinite values); for this package's format also
        "backbone", "method", "method_params", "optimizer" and "provenance".

    Raises:
        CheckpointError: when the file cannot be read.
    """
    path = Path(path)
    content = read_tensors(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no dictionary but a {type(content).__name__}")
    ours = content.get("format") == FORMAT
    entry = main_entry(content)
    weights = content if entry is None else under(content, entry)
    tensors = {str(key): value for key, value in weights.items() if isinstance(value, Tensor)}
    epochs = content.get("epochs" if ours else "epoch")
    summary: dict[str, Any] = {
        "format": FORMAT if ours else formats_of(entry, tensors),
        "size": path.stat().st_size,
        "sha256": sha256(path),
        "entries": {"(weights)": "tensors"} if entry is None else _entries(content),
        "weights": "(weights)" if entry is None else entry,
        "epochs": epochs if isinstance(epochs, (int, float)) else None,
        "tensors": len(tensors),
        "parameters": sum(
            tensor.numel()
            for key, tensor in tensors.items()
            if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ),
        "prefixes": dict(
            Counter(key.removeprefix(DDP).partition(".")[0] for key in tensors).most_common()
        ),
        "architecture": architecture_of(tensors),
        "not finite": non_finite(tensors),
    }
    if ours:
        summary |= {key: content.get(key) for key in ("backbone", "method", "method_params")}
        summary |= {"optimizer": content.get("optimizer") is not None}
        summary |= {"provenance": content.get("provenance")}
    return summary


def _entries(content: Mapping[str, Any]) -> dict[str, str]:
    """The file's keys and what is under them; of nested weights their paths too."""
    nested = {path: "tensors" for path, _ in places(content) if not has_tensors(content.get(path))}
    return {str(key): kind_of(value) for key, value in content.items()} | nested
