"""Data sets on disk, ready for use: counted, checked and split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.imagenet import read_imagenet
from e2mc.data.images import Splits
from e2mc.data.inaturalist import read_inaturalist_2018
from e2mc.data.label_lists import read_label_list
from e2mc.data.subsets import stratified_split
from e2mc.data.unlabelled import read_unlabelled
from e2mc.data.voc2007 import read_voc2007

FORMATS = {
    "imagenet": read_imagenet,
    "inaturalist-2018": read_inaturalist_2018,
    "voc2007": read_voc2007,
}
UNLABELLED = "unlabelled"  # a format that has no test images of its own


def find_images(
    format: str,
    folder: Path,
    *,
    classes: int,
    train: int,
    test: int,
    validation: int = 0,
    lists: Mapping[str, tuple[Path, int]] | None = None,
    seed: int = 0,
) -> Splits:
    """The images of a folder, when there are as many as there should be.

    Args:
        format: key of ``FORMATS``, or ``UNLABELLED``.
        folder: where they are.
        classes, train, test: how many classes, training images and test images there must be.
        validation: training images to hold out, every class with its share. Images of a list are
            never held out, so that the lists stay whole.
        lists: name -> file with the names of labelled training images, and how many it must have.
        seed: decides which images are held out, and which are the test images where the format has
            none of its own.

    Raises:
        DataError: when the folder or a list is not what it should be; with counts.
    """
    whole, tested = read_images(format, folder, test=test, seed=seed)
    found = {
        "classes": len(whole.classes),
        "training images": len(whole),
        "test images": len(tested),
    }
    for (what, count), expected in zip(found.items(), (classes, train, test), strict=True):
        if count != expected:
            left_out = "".join(f"; {part.left_out}" for part in (whole, tested) if part.left_out)
            raise DataError(
                f"{folder} has {count:,} {what}, expected {expected:,} ({format}{left_out}): some "
                "are missing or too many, unpack it again or correct the study's numbers"
            )
    chosen = {
        name: read_label_list(path, whole, count, tested)
        for name, (path, count) in (lists or {}).items()
    }
    rest, held_out = hold_out(whole, chosen, validation, seed)
    place = torch.full((len(whole),), -1)
    place[rest] = torch.arange(len(rest))
    return Splits(
        whole.subset(rest),
        whole.subset(held_out),
        tested,
        {name: place[indices] for name, indices in chosen.items()},
    )


def read_images(
    format: str, folder: Path, *, test: int, seed: int
) -> tuple[ImageFiles, ImageFiles]:
    """The training and the test images of a folder; arguments as for ``find_images``."""
    if format == UNLABELLED:
        whole = read_unlabelled(folder)
        rest, held_out = stratified_split(whole.labels, min(test, len(whole)), seed)
        return whole.subset(rest), whole.subset(held_out)
    return FORMATS[format](folder)


def hold_out(
    images: ImageFiles, lists: Mapping[str, Tensor], count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of the images held out; arguments as for ``find_images``."""
    if not count:
        return torch.arange(len(images)), torch.empty(0, dtype=torch.long)
    if images.labels.ndim != 1:
        raise DataError("images of several classes each cannot be held out: set validation to 0")
    listed = torch.zeros(len(images), dtype=torch.bool)
    for indices in lists.values():
        listed[indices] = True
    candidates = (~listed).nonzero().flatten()
    if count > len(candidates):
        raise DataError(
            f"cannot hold {count:,} images out: only {len(candidates):,} are in no label list"
        )
    chosen = candidates[stratified_split(images.labels[candidates], count, seed)[1]]
    held_out = torch.zeros(len(images), dtype=torch.bool)
    held_out[chosen] = True
    return (~held_out).nonzero().flatten(), chosen
