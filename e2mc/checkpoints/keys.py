"""Where the weights are in a file of one's own, and what its keys are called here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from e2mc.errors import InputError

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


def network_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """A backbone's weights as its library calls them."""
    prefix = getattr(backbone, "key_prefix", "")
    return {key.removeprefix(prefix): value for key, value in backbone.state_dict().items()}


def match_keys(
    found: Mapping[str, Tensor],
    network: Mapping[str, Tensor],
    heads: Collection[str] = (),
    entry: str | None = None,
) -> tuple[KeyMap, int] | None:
    """The map of a file's keys that puts its weights into a backbone.

    Args:
        found: the file's weights.
        network: those of the backbone, as its library calls them.
        heads: keys of the method's heads.
        entry: where in the file the weights are.

    Returns:
        The map, which drops what belongs nowhere, and how many of the backbone's tensors it finds;
        None where these are too few behind any one prefix.
    """
    begins = Counter(
        begin
        for key, value in found.items()
        for begin, rest in _cuts(key)
        if rest in network and value.shape == network[rest].shape
    )
    prefix, count = begins.most_common(1)[0] if begins else ("", 0)
    if count < SHARE * len(network):
        return None
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
    drop = sorted({_group(key, kept) for key in rest})
    return KeyMap(entry, prefixes, tuple(drop)), count


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a prefix off a key at a dot: the prefix with its dot, and the rest."""
    yield "", key
    for dot in re.finditer(r"\.", key):
        yield key[: dot.end()], key[dot.end() :]


def _group(key: str, kept: list[str]) -> str:
    """What to drop for a key: as short a prefix as no kept key has."""
    groups = (begin for begin, _ in _cuts(key) if begin)
    return next((g for g in groups if not any(name.startswith(g) for name in kept)), key)
