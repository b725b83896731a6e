"""ImageNet as a folder of images: ``train/<class>/<file>`` and ``val/<class>/<file>``.

Source: Russakovsky et al. 2015, arXiv 1409.0575; any data set in such folders will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_imagenet(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``train`` and of ``val``, ordered by class and name; classes are the folders.

    Raises:
        DataError: when a folder is missing, a class has no images, or the two parts have not the
            same classes.
    """
    train = {name: files for name, files in _classes(folder, "train")}
    val = {name: files for name, files in _classes(folder, "val")}
    if train.keys() != val.keys():
        differ = sorted(train.keys() ^ val.keys())
        raise DataError(
            f"{folder}/train has {len(train)} classes and {folder}/val has {len(val)}, and "
            f"{len(differ)} are in only one of them, e.g. {differ[0]}: both need the same folders"
        )
    return _files(folder, "train", train), _files(folder, "val", val)


def _classes(folder: Path, part: str) -> Iterator[tuple[str, list[str]]]:
    """Class -> names of its images, both sorted."""
    root = folder / part
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder: set data_folders.imagenet in config.yaml to the folder that "
            "holds train/<class>/*.JPEG and val/<class>/*.JPEG"
        )
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    names = [entry.name for entry in found if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        loose = sum(_is_image(entry.name) for entry in found)
        raise DataError(
            f"{root} has no class folders ({loose} images lie in it directly): sort the images "
            "into one folder per class"
        )
    for name in names:
        files = sorted(file for file in os.listdir(root / name) if _is_image(file))
        if not files:
            raise DataError(
                f"class {name} has no images in {root}: expected {', '.join(SUFFIXES[:3])} files; "
                "unpack it again, or remove the folder if there is no such class"
            )
        yield name, files


def _is_image(name: str) -> bool:
    """By its name; macOS leaves hidden files beside images that end like them."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _files(folder: Path, part: str, classes: dict[str, list[str]]) -> ImageFiles:
    names = [f"{part}/{name}/{file}" for name, files in classes.items() for file in files]
    sizes = torch.tensor([len(files) for files in classes.values()])
    labels = torch.arange(len(classes)).repeat_interleave(sizes)
    return ImageFiles.of(folder, names, labels, list(classes))
