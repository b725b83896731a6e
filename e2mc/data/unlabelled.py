"""Images without labels: the files that lie in one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.listing import is_image, list_folders, summary

CLASSES = ("unlabelled",)  # of which all images are


def read_unlabelled(folder: Path) -> ImageFiles:
    """The images that lie in a folder itself, ordered by name, all of the class "unlabelled".

    Raises:
        DataError: when there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the one that the images lie in")
    [listing] = list_folders([folder], lambda _, name: is_image(name))
    left_out = summary(dict(sorted(listing.left_out.items())))
    if not listing.files:
        why = f" ({left_out})" if left_out else ""
        raise DataError(f"no images lie in {folder}{why}: name the folder that they lie in")
    labels = torch.zeros(len(listing.files), dtype=torch.long)
    return replace(ImageFiles.of(folder, sorted(listing.files), labels, CLASSES), left_out=left_out)
