"""Which images of a training set have labels, and which are held out."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified_subset(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Draws the same share of every class, to the nearest image (halves up).

    Subsets of one seed are nested: the 1 % are among the 10 %.

    Args:
        labels: int64 (N,).
        fraction: 0 < fraction <= 1; with 1 every image is returned.
        seed: of the draw.

    Returns:
        int64 indices in increasing order.

    Raises:
        ValueError: when the fraction is out of range or leaves a class without images.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the label fraction must be in (0, 1], found {fraction}")
    classes, counts = labels.unique(return_counts=True)
    wanted = (counts.double() * fraction + 0.5).floor().long()
    empty = classes[wanted == 0].tolist()
    if empty:
        names = ", ".join(map(str, empty))
        raise ValueError(
            f"label fraction {fraction} leaves class {names} without images: use at least "
            f"{0.5 / int(counts.min()):.2g}"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label, count in zip(classes, wanted, strict=True):
        members = (labels == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


def split_validation(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out ``count`` images, stratified: each class gives its share, to within one image.

    Args:
        labels: int64 (N,).
        count: 1 <= count < N.
        seed: of the draw.

    Returns:
        (training indices, validation indices), int64, each in increasing order.

    Raises:
        ValueError: when ``count`` is out of range or takes every image of a class.
    """
    if not 1 <= count < len(labels):
        raise ValueError(
            f"the validation split must hold 1 to {len(labels) - 1} of the {len(labels)} training "
            f"images, found {count}"
        )
    classes, counts = labels.unique(return_counts=True)
    share = counts.double() * count / len(labels)
    wanted = share.floor().long()
    # largest remainders get what rounding down has left
    order = (share - wanted).argsort(descending=True, stable=True)
    wanted[order[: count - int(wanted.sum())]] += 1
    emptied = classes[wanted >= counts].tolist()
    if emptied:
        raise ValueError(
            f"a validation split of {count} images takes every training image of class "
            f"{', '.join(map(str, emptied))}: hold out fewer"
        )
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in zip(classes, wanted, strict=True):
        members = (labels == label).nonzero().flatten()
        held_out[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


__all__ = ["split_validation", "stratified_subset"]
