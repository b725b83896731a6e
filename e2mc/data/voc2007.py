"""Pascal VOC 2007 classification: 20 classes, several of which can be in one image.

Source: Everingham et al. 2010; the files of ``ImageSets/Main``.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from e2mc.data.errors import DataError, expect_no_pointer
from e2mc.data.files import ImageFiles
from e2mc.data.listing import File, find_all, refuse_shared

# what the files say -> what it means here: in the image, not in it, hard to see
MEANING = {"1": 1, "-1": 0, "0": -1}
PARTS = ("trainval", "test")


def read_voc2007(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``trainval`` and of ``test``, with int8 labels (N, K).

    A label is 1 for a class in the image, 0 for one that is not, -1 for one that is there but
    difficult to see. Classes are those with a file ``ImageSets/Main/<class>_trainval.txt``.

    Args:
        folder: VOC2007 itself, or VOCdevkit or the folder around it.

    Raises:
        DataError: when the folder or a file is missing or is not of this format, the lists do not
            name the same classes and images, an image is not on disk, stands twice in a list or is
            in both parts, or a class is in no image.
    """
    root = _root(folder)
    lists = root / "ImageSets" / "Main"
    classes, tested = (_classes(lists, part) for part in PARTS)
    if not classes:
        raise DataError(
            f"{lists} has no <class>_trainval.txt: unpack the training and validation data of "
            "VOC2007 again"
        )
    only = sorted(set(tested) - set(classes))
    if only:
        raise DataError(
            f"{lists} has {only[0]}_test.txt and no {only[0]}_trainval.txt: unpack the training "
            "and validation data of VOC2007 again"
        )
    (train, train_files), (test, test_files) = (_images(root, part, classes) for part in PARTS)
    refuse_shared(root, train_files, test_files)
    return train, test


def _root(folder: Path) -> Path:
    for root in (folder, folder / "VOC2007", folder / "VOCdevkit" / "VOC2007"):
        if (root / "ImageSets" / "Main").is_dir():
            return root
    raise DataError(
        f"{folder} has no ImageSets/Main: set data_folders.voc2007 in config.yaml to the folder "
        "VOC2007 with JPEGImages and ImageSets of both trainval and test"
    )


def _classes(lists: Path, part: str) -> list[str]:
    """Those with a list for a part, sorted; macOS leaves hidden files beside them."""
    end = f"_{part}.txt"
    names = [name for name in os.listdir(lists) if name.endswith(end) and name[0] != "."]
    return sorted(name.removesuffix(end) for name in names if name != end)


def _images(root: Path, part: str, classes: list[str]) -> tuple[ImageFiles, dict[str, File]]:
    columns = {name: _column(root, part, name) for name in classes}
    images, labels = columns[classes[0]]
    for name, (others, _) in columns.items():
        if others != images:
            raise DataError(
                f"{_list(root, part, name)} names {len(others)} images, and "
                f"{_list(root, part, classes[0])} {len(images)}, not the same ones in one order: "
                "unpack VOC2007 again"
            )
    _all_are_listed(root, part, images)
    names = [f"JPEGImages/{image}.jpg" for image in images]
    there = find_all(
        root, names, part, f"unpack the {part} data of VOC2007 too", below="JPEGImages"
    )
    labels = torch.stack([values for _, values in columns.values()], dim=1)
    nowhere = (labels != 1).all(dim=0).nonzero().flatten().tolist()
    if nowhere:
        raise DataError(
            f"{_list(root, part, classes[nowhere[0]])}: no image of {part} shows "
            f"{classes[nowhere[0]]}, which cannot be learnt or scored then: unpack VOC2007 again"
        )
    return ImageFiles.of(root, names, labels, classes), there


def _all_are_listed(root: Path, part: str, images: list[str]) -> None:
    """Raises DataError unless each image stands once in the lists, as in that of the whole part."""
    path = root / "ImageSets" / "Main" / f"{part}.txt"
    twice = [image for image, count in Counter(images).items() if count > 1]
    if twice:
        raise DataError(
            f"the lists of {part} in {path.parent} name {twice[0]} twice: unpack VOC2007 again"
        )
    if path.is_file():
        whole = {line.strip() for line in _lines(path)}
        differ = sorted(whole ^ set(images))
        if differ:
            where = "not in those" if differ[0] in whole else "in those"
            raise DataError(
                f"{path} names {len(whole)} images and the lists of its classes {len(images)}, "
                f"e.g. {differ[0]} is {where} of the classes: unpack VOC2007 again"
            )


def _list(root: Path, part: str, name: str) -> Path:
    return root / "ImageSets" / "Main" / f"{name}_{part}.txt"


def _lines(path: Path) -> list[str]:
    """Lines with something on them; names are bytes on disk, which need not be UTF-8."""
    content = path.read_bytes()
    expect_no_pointer(path, content)
    text = content.decode("utf-8-sig", "surrogateescape")
    return [line for line in text.splitlines() if line.strip()]


def _column(root: Path, part: str, name: str) -> tuple[list[str], Tensor]:
    """Images and labels (N,) of one class."""
    path = _list(root, part, name)
    try:
        rows = [line.rsplit(maxsplit=1) for line in _lines(path)]
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}): unpack the {part} data of VOC2007 too"
        ) from None
    for row in rows:
        if len(row) != 2 or row[1] not in MEANING:
            raise DataError(
                f"{path}: expected lines of an image and 1, -1 or 0, as in VOC2007, found "
                f"{' '.join(row)!r}"
            )
    labels = [MEANING[value] for _, value in rows]
    return [image.strip() for image, _ in rows], torch.tensor(labels, dtype=torch.int8)
