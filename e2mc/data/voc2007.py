"""Pascal VOC 2007 classification: 20 classes, several of which can be in one image.

Source: Everingham et al. 2010; the files of ``ImageSets/Main``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles

# what the files say -> what it means here: in the image, not in it, hard to see
MEANING = {1: 1, -1: 0, 0: -1}


def read_voc2007(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``trainval`` and of ``test``, with int8 labels (N, K).

    A label is 1 for a class in the image, 0 for one that is not, -1 for one that is there but
    difficult to see. Classes are those with a file ``ImageSets/Main/<class>_trainval.txt``.

    Args:
        folder: VOC2007 itself, or VOCdevkit or the folder around it.

    Raises:
        DataError: when the folder or a file is missing or is not of this format, or an image is
            not on disk.
    """
    root = _root(folder)
    lists = root / "ImageSets" / "Main"
    classes = sorted(
        match[1]
        for match in (re.fullmatch(r"(\w+)_trainval\.txt", name) for name in os.listdir(lists))
        if match
    )
    if not classes:
        raise DataError(
            f"{lists} has no <class>_trainval.txt: unpack the training and validation data of "
            "VOC2007 again"
        )
    train, test = (_files(root, part, classes) for part in ("trainval", "test"))
    return train, test


def _root(folder: Path) -> Path:
    for root in (folder, folder / "VOC2007", folder / "VOCdevkit" / "VOC2007"):
        if (root / "ImageSets" / "Main").is_dir():
            return root
    raise DataError(
        f"{folder} has no ImageSets/Main: set data_folders.voc2007 in config.yaml to the folder "
        "VOC2007 with JPEGImages and ImageSets of both trainval and test"
    )


def _files(root: Path, part: str, classes: list[str]) -> ImageFiles:
    columns = {name: _column(root, part, name) for name in classes}
    images, labels = columns[classes[0]]
    for name, (others, _) in columns.items():
        if others != images:
            raise DataError(
                f"{_list(root, part, name)} names {len(others)} images, and "
                f"{_list(root, part, classes[0])} {len(images)}, not the same ones in one order: "
                "unpack VOC2007 again"
            )
    there = set(os.listdir(root / "JPEGImages")) if (root / "JPEGImages").is_dir() else set()
    files = [f"{image}.jpg" for image in images]
    absent = [file for file in files if file not in there]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(files)} images of {part} are not in {root / 'JPEGImages'}, "
            f"e.g. {absent[0]}: unpack the {part} data of VOC2007 too"
        )
    labels = torch.stack([values for _, values in columns.values()], dim=1)
    return ImageFiles.of(root, [f"JPEGImages/{file}" for file in files], labels, classes)


def _list(root: Path, part: str, name: str) -> Path:
    return root / "ImageSets" / "Main" / f"{name}_{part}.txt"


def _column(root: Path, part: str, name: str) -> tuple[list[str], Tensor]:
    """Images and labels (N,) of one class."""
    path = _list(root, part, name)
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}): unpack the {part} data of VOC2007 too"
        ) from None
    try:
        labels = [MEANING[int(value)] for _, value in rows]
    except (ValueError, KeyError):
        raise DataError(
            f"{path}: expected lines of an image and 1, -1 or 0, as in VOC2007"
        ) from None
    return [image for image, _ in rows], torch.tensor(labels, dtype=torch.int8)
