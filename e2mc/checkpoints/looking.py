"""What somebody's file of weights is, and how it becomes a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from e2mc.checkpoints.architecture import architecture_of
from e2mc.checkpoints.checkpoint import FORMAT
from e2mc.checkpoints.entries import has_tensors, main_entry, under, weights_in
from e2mc.checkpoints.keys import KeyMap, match_keys, network_weights
from e2mc.checkpoints.reading import CheckpointError, read_tensors
from e2mc.checkpoints.weights import non_finite
from e2mc.models import create_backbone

SHOWN = 3  # keys in an error


def look_at_model(path: Path, backbone: str, channels: int = 3) -> tuple[KeyMap, str]:
    """Where a backbone's weights are in a file.

    Args:
        path: a file of ``torch.save`` or of safetensors, whatever its name.
        backbone: name of the network.
        channels: of the images that it is to take, 1 or 3.

    Returns:
        The map of its keys, and what was found, in words.

    Raises:
        CheckpointError: when the file cannot be read, holds no weights, those of another network
            or for images of another number of channels, or numbers that are not finite.
    """
    content = read_tensors(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise CheckpointError(
            f"{path} is a checkpoint of this package, with its method and heads: name it as a "
            "base of a study, see docs/own-data.md"
        )
    entry = main_entry(content) if isinstance(content, Mapping) else None
    strangers = _no_tensors(content if entry is None else under(content, entry))
    weights, _ = weights_in(content, entry, f"{path} holds no weights", strangers)
    network = network_weights(create_backbone(backbone, channels))
    matched = match_keys(weights, network, entry=entry)
    if matched is None:
        raise CheckpointError(_does_not_fit(path, weights, backbone, network))
    keys, count = matched
    keys = replace(keys, drop=(*keys.drop, *strangers))
    missing = [key for key in network if not _is_there(key, keys, weights)]
    if missing:
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the {len(network)} tensors of {backbone}, e.g. "
            f"{', '.join(missing[:SHOWN])}: name the network that it is of with --backbone"
        )
    _expect_channels(path, keys, weights, network, channels)
    broken = non_finite(weights)
    if broken:
        raise CheckpointError(
            f"{path}: {', '.join(broken[:SHOWN])} {'is' if len(broken) == 1 else 'are'} not "
            "finite: take an earlier file of that training"
        )
    prefix = next(iter(keys.prefixes))
    where = [f"under {entry!r}"] if entry is not None else []
    where += [f"behind {prefix!r}"] if prefix else []
    left_out = f"; left out: {', '.join(keys.drop)}" if keys.drop else ""
    return keys, f"{count} tensors of {backbone} {' '.join(where) or 'by their names'}{left_out}"


def _no_tensors(found: Any) -> list[str]:
    """Keys of what stands beside weights, such as an epoch; nothing where there are no weights."""
    if not has_tensors(found):
        return []
    return [str(key) for key, value in found.items() if not isinstance(value, Tensor)]


def _is_there(key: str, keys: KeyMap, weights: Mapping[str, Tensor]) -> bool:
    # counters of batch normalisation begin at zero where a file lacks them
    return key.endswith("num_batches_tracked") or next(iter(keys.prefixes)) + key in weights


def _expect_channels(
    path: Path,
    keys: KeyMap,
    weights: Mapping[str, Tensor],
    network: Mapping[str, Tensor],
    channels: int,
) -> None:
    """Raises CheckpointError for a layer that takes the pixels of another kind of images."""
    prefix = next(iter(keys.prefixes))
    for key, value in network.items():
        shape = tuple(weights.get(prefix + key, value).shape)
        if len(shape) == 4 and shape[1] != value.shape[1] == channels:
            raise CheckpointError(
                f"{path} takes images of {shape[1]} channels ({key}), these have {channels}: name "
                "other images; grey ones that are saved as files are read with 3 channels"
            )


def _does_not_fit(
    path: Path, weights: Mapping[str, Tensor], backbone: str, network: Mapping[str, Tensor]
) -> str:
    found, wanted = architecture_of(weights), architecture_of(network)
    looks = f"it looks like {found}" if found else "what network it is of cannot be told"
    expected = f", {backbone} is {wanted}" if wanted and found else ""
    return (
        f"{path} has not the weights of {backbone}: expected keys such as "
        f"{', '.join(list(network)[:SHOWN])}, found {', '.join(list(weights)[:SHOWN])}; "
        f"{looks}{expected}: name its network with --backbone"
    )
