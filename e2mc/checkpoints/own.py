"""A file of one's own, with a map of its keys, as a ``Checkpoint``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.checkpoints.entries import fill, kept_of, rename, weights_in
from e2mc.checkpoints.keys import OURS, KeyMap, match_keys, network_weights
from e2mc.checkpoints.reading import read_tensors
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.state import sha256


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
        path: a file of ``torch.save`` or of safetensors, whatever its name.
        keys: where its weights are and how they are called.
        backbone: name of the backbone.
        in_channels: channels of the images.
        method: name of the method that will go on with it.
        method_params: the arguments that build the method's heads.
        epochs: how long it was pre-trained.
        seed: decides the weights of fresh heads.

    Raises:
        CheckpointError: when a tensor does not fit or has values that are not finite, something
            else is among the weights, or a head is there in part.
    """
    content = read_tensors(path)
    kept, dropped = weights_in(content, keys.entry, f"{path} cannot be converted", keys.drop)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = create_method(method, create_backbone(backbone, in_channels), **method_params)
    inner = OURS + getattr(made.backbone, "key_prefix", "")
    prefixes = [
        (theirs, inner + ours.removeprefix(OURS) if ours.startswith(OURS) else ours)
        for theirs, ours in sorted(keys.prefixes.items(), key=lambda pair: -len(pair[0]))
    ]
    weights = {ours: kept[key] for ours, key in rename(kept, prefixes, path).items()}
    there = {key.partition(".")[0] for key in weights}
    expected = made.state_dict()
    fresh = {
        key: value
        for key, value in expected.items()
        if key.partition(".")[0] not in {"backbone", *there}
    }
    outside = {key for key in expected if not key.startswith(OURS)}
    what = f"method {type(made).__name__}, read from {path}"
    fill(
        made,
        weights | fresh,
        prefixes,
        what,
        _advice(kept, network_weights(made.backbone), outside, keys),
    )
    learnt = {name.partition(".")[0] for name, _ in made.named_parameters()}
    heads = sorted(learnt & {key.partition(".")[0] for key in fresh})
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
        model=kept_of(made),
        epochs=epochs,
        provenance={"own": sha256(path), "fresh": heads, "dropped": dropped},
    )


def _advice(
    found: Mapping[str, Tensor], network: Mapping[str, Tensor], heads: set[str], keys: KeyMap
) -> str:
    """The key map to write, where most of the backbone's tensors are there behind a prefix.

    Args:
        found: the file's weights.
        network: those of the backbone, as its library calls them.
        heads: keys of the method's heads.
        keys: what was written.
    """
    matched = match_keys(found, network, heads)
    if matched is None:
        return ""
    better, count = matched
    drop = {*keys.drop, *better.drop}
    if keys.prefixes == better.prefixes and set(keys.drop) == drop:
        return ""
    prefix = next(iter(better.prefixes))
    where = f"behind {prefix!r}" if prefix else "without a prefix"
    written = {"prefixes": better.prefixes} | ({"drop": sorted(drop)} if drop else {})
    return (
        f"{count} of the backbone's {len(network)} tensors are there {where}: write keys: "
        f"{_yaml(written)}"
    )


def _yaml(value: Any) -> str:
    """A value on one line, as it is written in a study."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return value if re.fullmatch(r"[A-Za-z][\w.]*", value) else f'"{value}"'
