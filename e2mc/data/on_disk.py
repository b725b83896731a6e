"""Data sets on disk, ready for use: counted, checked and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from e2mc.data.folder import read_folder
from e2mc.data.found import Expected, Found, divide
from e2mc.data.imagenet import read_imagenet
from e2mc.data.images import Splits
from e2mc.data.inaturalist import read_inaturalist_2018
from e2mc.data.parquet import read_parquet
from e2mc.data.unlabelled import read_unlabelled
from e2mc.data.voc2007 import read_voc2007

# of a folder, and of one to unpack files into, which Parquet alone needs
FORMATS: dict[str, Callable[[Path, Path | None], Found]] = {
    "folder": lambda folder, _: read_folder(folder),
    "imagenet": lambda folder, _: Found(*read_imagenet(folder)),
    "inaturalist-2018": lambda folder, _: Found(*read_inaturalist_2018(folder)),
    "parquet": read_parquet,
    "unlabelled": lambda folder, _: Found(read_unlabelled(folder), None),
    "voc2007": lambda folder, _: Found(*read_voc2007(folder)),
}


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
    unpack_to: Path | None = None,
) -> Splits:
    """The images of a folder, when there are as many as there should be.

    Args:
        format: key of ``FORMATS``.
        folder: where they are.
        classes, train, test: how many classes, training images and test images there must be.
            Images that the folder keeps apart for validation count as training images.
        validation: training images to hold out, every class with its share, or the number of those
            that the folder keeps apart. Images of a list are never held out, so that the lists stay
            whole.
        lists: name -> file with the names of labelled training images, and how many it must have.
        seed: decides which images are held out.
        unpack_to: a folder for the images of format "parquet", which packs several into a file.

    Raises:
        DataError: when the folder or a list is not what it should be; with counts.
    """
    found = FORMATS[format](folder, unpack_to)
    expected = Expected(classes, train, test, validation, seed=seed)
    return divide(found, expected, folder, format, lists)
