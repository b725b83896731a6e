"""Images without labels: the files that lie in one folder, and a share of them to measure on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.listing import is_image, list_folders, summary
from e2mc.data.subsets import stratified_split

CLASSES = ("unlabelled",)  # of which all images are


def read_unlabelled(folder: Path, test: int, seed: int) -> tuple[ImageFiles, ImageFiles]:
    """The images that lie in a folder itself, ordered by name, all of the class "unlabelled".

    Args:
        folder: where they are; its folders are not looked into.
        test: how many are held out to measure on, or all if there are fewer.
        seed: decides which.

    Returns:
        Those to train on, and those held out.

    Raises:
        DataError: when there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the one that the images lie in")
    [listing] = list_folders([folder], lambda _, name: is_image(name))
    if not listing.files:
        left_out = f" ({summary(listing.left_out)})" if listing.left_out else ""
        raise DataError(f"no images lie in {folder}{left_out}: name the folder that they lie in")
    labels = torch.zeros(len(listing.files), dtype=torch.long)
    whole = ImageFiles.of(folder, sorted(listing.files), labels, CLASSES)
    whole = replace(whole, left_out=summary(dict(sorted(listing.left_out.items()))))
    rest, held_out = stratified_split(labels, min(test, len(labels)), seed)
    return whole.subset(rest), whole.subset(held_out)
