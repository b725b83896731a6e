"""Which images: stratified subsets and splits of labelled images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from e2mc.errors import InputError


def evenly_spaced(total: int, count: int) -> Tensor:
    """``count`` of the numbers below ``total`` from the first to the last, or all: int64, rising.

    Of images that lie on disk class by class, every class gets its share.
    """
    count = min(count, total)
    return torch.arange(count) * (total - 1) // max(count - 1, 1)


def stratified_split(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Splits off ``count`` images, every class with its share (largest remainders).

    Args:
        labels: int64 (N,) class numbers.
        count: size of the second part, 0 to N.
        seed: decides which images of a class go where.

    Returns:
        The indices of the rest and of the part split off, both ascending.

    Raises:
        ValueError: when there are fewer than ``count`` images.
    """
    if not 0 <= count <= len(labels):
        raise InputError(f"cannot split {count} of {len(labels)} images off")
    sizes = torch.bincount(labels)
    shares = sizes.double() * count / len(labels)
    taken = shares.floor().long()
    by_remainder = (shares - taken).argsort(descending=True, stable=True)
    taken[by_remainder[: count - int(taken.sum())]] += 1
    chosen = _drawn(labels, taken, seed)
    return (~chosen).nonzero().squeeze(1), chosen.nonzero().squeeze(1)


def _drawn(labels: Tensor, taken: Tensor, seed: int) -> Tensor:
    """Bool (N,): so many images of each class, the first ones of an order that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in enumerate(taken.tolist()):
        members = (labels == label).nonzero().squeeze(1)
        chosen[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return chosen


def stratified_subset(
    labels: Tensor, fraction: float, seed: int, classes: Sequence[str] | None = None
) -> Tensor:
    """A share of the images, every class with its share: indices, ascending.

    Args:
        labels: int64 (N,) class numbers.
        fraction: share of the images, in (0, 1].
        seed: decides which images of a class are taken.
        classes: names for the message.

    Raises:
        ValueError: when a class would be left without images; the message names it.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"a label fraction must be in (0, 1], found {fraction}")
    _, subset = stratified_split(labels, round(fraction * len(labels)), seed)
    present = torch.bincount(labels) > 0
    taken = torch.bincount(labels[subset], minlength=len(present)) > 0
    empty = (present & ~taken).nonzero().squeeze(1).tolist()
    if empty:
        names = ", ".join(str(classes[label] if classes else label) for label in empty)
        raise InputError(
            f"a label fraction of {fraction:g} of {len(labels)} images leaves no image of "
            f"{names}: choose a larger fraction"
        )
    return subset


def balanced_subset(labels: Tensor, count: int, seed: int, classes: Sequence[str]) -> Tensor:
    """So many images of every class: indices, ascending.

    Of one seed they lie within those of a larger count, and within those of a stratified subset
    that takes more of each class.

    Args:
        labels: int64 (N,) class numbers.
        count: images of each class, at least 1.
        seed: decides which images of a class are taken.
        classes: the names of all of them.

    Raises:
        ValueError: when a class has fewer images; the message names it.
    """
    sizes = torch.bincount(labels, minlength=len(classes))
    if sizes.min() < count:
        few = int(sizes.argmin())
        raise InputError(
            f"labels_per_class: class {classes[few]} has {int(sizes[few])} training images, fewer "
            f"than {count}: lower it"
        )
    return _drawn(labels, torch.full_like(sizes, count), seed).nonzero().squeeze(1)
