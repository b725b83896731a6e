"""ImageNet as a folder of images: ``train/<class>/<file>`` and ``val/<class>/<file>``.

Source: Russakovsky et al. 2015, arXiv 1409.0575; any data set in such folders will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.listing import (
    SUFFIXES,
    File,
    is_class_folder,
    is_image,
    list_folders,
    refuse_shared,
    refuse_two_labels,
    summary,
)


def read_imagenet(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``train`` and of ``val``, ordered by class and name; classes are the folders.

    Images are files that are named like images and are not empty, through links or not.

    Raises:
        DataError: when a folder is missing, a class has no images, the two parts have not the
            same classes, or an image is in both parts or in two classes.
    """
    train, val = _Part.read(folder, "train"), _Part.read(folder, "val")
    if (folder / "train").samefile(folder / "val"):
        raise DataError(
            f"{folder}/val and {folder}/train are one folder: images that are trained on cannot "
            "be tested on; set val to the folder of the validation images"
        )
    if train.classes.keys() != val.classes.keys():
        _explain_classes(folder, train.classes, val.classes)
    refuse_shared(folder, train.files, val.files)
    return train.images(folder), val.images(folder)


@dataclass
class _Part:
    """Class -> its files in order, name relative to the folder -> file, and what is left out."""

    classes: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, part: str) -> _Part:
        root, found = folder / part, cls()
        names = _class_folders(root)
        listings = list_folders([root / name for name in names], lambda _, name: is_image(name))
        for name, listing in zip(names, listings, strict=True):
            prefix = f"{part}/{name}/"
            left_out = {prefix + file: why for file, why in sorted(listing.left_out.items())}
            if not listing.files:
                _explain_empty(root, name, left_out)
            found.classes[name] = sorted(prefix + file for file in listing.files)
            found.files |= {
                file: listing.files[file.removeprefix(prefix)] for file in found.classes[name]
            }
            found.left_out |= left_out
        return found

    def images(self, folder: Path) -> ImageFiles:
        sizes = torch.tensor([len(files) for files in self.classes.values()])
        labels = torch.arange(len(self.classes)).repeat_interleave(sizes)
        refuse_two_labels(folder, self.files, labels)
        found = ImageFiles.of(folder, list(self.files), labels, list(self.classes))
        return replace(found, left_out=summary(self.left_out))


def _class_folders(root: Path) -> list[str]:
    """Their names, sorted."""
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder: set data_folders.imagenet in config.yaml to the folder that "
            "holds train/<class>/*.JPEG and val/<class>/*.JPEG"
        )
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_symlink() and not os.path.exists(entry.path) and not is_image(entry.name):
            raise DataError(
                f"{entry.path} is a link that points nowhere: restore the folder that it means, or "
                "remove the link if there is no such class"
            )
    names = [entry.name for entry in found if is_class_folder(entry)]
    if not names:
        loose = sum(is_image(entry.name) for entry in found)
        raise DataError(
            f"{root} has no class folders ({loose} images lie in it directly): sort the images "
            "into one folder per class"
        )
    return names


def _explain_empty(root: Path, name: str, left_out: dict[str, str]) -> None:
    """Raises DataError for a class without images, with where they may be."""
    what = f"class {name} has no images in {root}"
    if left_out:
        raise DataError(f"{what} ({summary(left_out)}): unpack it again")
    with os.scandir(root / name) as entries:
        deeper = sorted(entry.name for entry in entries if is_class_folder(entry))
    for inner in deeper:
        files = [file for file in os.listdir(root / name / inner) if is_image(file)]
        if files:
            raise DataError(
                f"{what}: found {len(files):,} images one level deeper, in {root / name / inner}; "
                f"move them up into {root / name}"
            )
    raise DataError(
        f"{what}: expected {', '.join(SUFFIXES[:3])} files; unpack it again, or remove the folder "
        "if there is no such class"
    )


def _explain_classes(folder: Path, train: Iterable[str], val: Iterable[str]) -> None:
    """Raises DataError for two parts with different classes."""
    classes = {"train": set(train), "val": set(val)}
    differ = sorted(classes["train"] ^ classes["val"])
    alone = next((part for part, names in classes.items() if len(names) == 1), None)
    advice = "both need the same folders"
    if alone is not None:
        advice = (
            f"sort the images of {folder / alone / min(classes[alone])} into one folder per class"
        )
    raise DataError(
        f"{folder}/train has {len(classes['train'])} classes and {folder}/val has "
        f"{len(classes['val'])}, and {len(differ)} are in only one of them, e.g. {differ[0]}: "
        f"{advice}"
    )
