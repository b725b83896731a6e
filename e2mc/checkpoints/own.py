"""A file of one's own, with a map of its keys, as a ``Checkpoint``."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.checkpoints.entries import fill, kept_of, rename, weights_in
from e2mc.checkpoints.reading import read_tensors
from e2mc.errors import InputError
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.state import sha256

OURS = "backbone."
SHARE = 0.8  # of the backbone's tensors that must be there behind a prefix, to call it one


@dataclass(frozen=True)
class KeyMap:
    """Where the weights are in a file of one's own, and what its keys are called here.

    Attributes:
        entry: key of the file under which the weights are, or a path of keys such as
            ``classy_state_dict.base_model.model.trunk``; None when the file is the weights.
        prefixes: prefix of the file's keys -> ours, the longest match counts. Ours begin with
            ``backbone.`` or with the name of one of the method's heads, such as ``projector.``.
        drop: prefixes of keys that are left out, e.g. a classifier's, or of what is no tensor.
    """

    entry: str | None = None
    prefixes: dict[str, str] = field(default_factory=lambda: {"": OURS})
    drop: tuple[str, ...] = ()

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.prefixes:
            raise InputError("prefixes is empty: map at least one prefix, e.g. {'': 'backbone.'}")


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
    network = {k.removeprefix(inner): v for k, v in expected.items() if k.startswith(inner)}
    outside = {key for key in expected if not key.startswith(OURS)}
    what = f"method {type(made).__name__}, read from {path}"
    fill(made, weights | fresh, prefixes, what, _advice(kept, network, outside, keys))
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
    begins = Counter(
        begin
        for key, value in found.items()
        for begin, rest in _cuts(key)
        if rest in network and value.shape == network[rest].shape
    )
    prefix, count = begins.most_common(1)[0] if begins else ("", 0)
    if count < SHARE * len(network):
        return ""
    prefixes = {prefix: OURS}
    kept: list[str] = []
    rest: list[str] = []
    for key in found:
        head = next(((begin, name) for begin, name in _cuts(key) if name in heads), None)
        if head is not None:
            name = head[1].partition(".")[0] + "."
            prefixes[head[0] + name] = name
        fits = key.startswith(prefix) and key.removeprefix(prefix) in network
        (kept if fits or head is not None else rest).append(key)
    drop = {*keys.drop, *(_group(key, kept) for key in rest)}
    if keys.prefixes == prefixes and set(keys.drop) == drop:
        return ""
    where = f"behind {prefix!r}" if prefix else "without a prefix"
    written = {"prefixes": prefixes} | ({"drop": sorted(drop)} if drop else {})
    return (
        f"{count} of the backbone's {len(network)} tensors are there {where}: write keys: "
        f"{_yaml(written)}"
    )


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a prefix off a key at a dot: the prefix with its dot, and the rest."""
    yield "", key
    for dot in re.finditer(r"\.", key):
        yield key[: dot.end()], key[dot.end() :]


def _group(key: str, kept: list[str]) -> str:
    """What to drop for a key: as short a prefix as no kept key has."""
    groups = (begin for begin, _ in _cuts(key) if begin)
    return next((g for g in groups if not any(name.startswith(g) for name in kept)), key)


def _yaml(value: Any) -> str:
    """A value on one line, as it is written in a study."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return value if re.fullmatch(r"[A-Za-z][\w.]*", value) else f'"{value}"'
