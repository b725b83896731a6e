"""Images in one folder per class, as ImageNet and torchvision's ImageFolder have them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
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
    is_left_behind,
    list_folders,
    refuse_shared,
    refuse_two_labels,
    summary,
)


@dataclass
class ClassFolders:
    """Class -> its files in order, name relative to the folder -> file, and what is left out."""

    classes: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, part: str = "", deep: bool = False) -> ClassFolders:
        """The class folders of ``folder/part``.

        Args:
            folder: what names are relative to.
            part: of the data set; empty: the class folders lie in ``folder`` itself.
            deep: images in folders below a class folder are of its class, too.

        Raises:
            DataError: when there are no class folders, or a class has no images.
        """
        root, found = folder / part, cls()
        names = _class_folders(root)
        below = {name: _folders_below(root / name) if deep else [""] for name in names}
        folders = [root / name / inner for name in names for inner in below[name]]
        listings = list_folders(folders, lambda _, name: is_image(name))
        for name in names:
            files: dict[str, File] = {}
            left_out: dict[str, str] = {}
            for inner in below[name]:
                prefix = "/".join(filter(None, (part, name, inner))) + "/"
                listing = next(listings)
                files |= {prefix + file: there for file, there in listing.files.items()}
                left_out |= {prefix + file: why for file, why in sorted(listing.left_out.items())}
            if not files:
                _explain_empty(root, name, left_out)
            found.classes[name] = sorted(files)
            found.files |= {file: files[file] for file in found.classes[name]}
            found.left_out |= left_out
        return found

    def images(self, folder: Path) -> ImageFiles:
        sizes = torch.tensor([len(files) for files in self.classes.values()])
        labels = torch.arange(len(self.classes)).repeat_interleave(sizes)
        refuse_two_labels(folder, self.files, labels)
        found = ImageFiles.of(folder, list(self.files), labels, list(self.classes))
        return replace(found, left_out=summary(self.left_out))


def refuse_mixed(folder: Path, parts: Mapping[str, ClassFolders]) -> None:
    """Raises DataError unless parts have the same classes and no image in common.

    Args:
        folder: what holds the parts.
        parts: name of the part's folder -> what is in it.
    """
    for one, other in itertools.combinations(parts, 2):
        if (folder / one).samefile(folder / other):
            raise DataError(
                f"{folder / other} and {folder / one} are one folder: images that are trained on "
                f"cannot be tested on; set {other} to the folder of the images of its own"
            )
        if parts[one].classes.keys() != parts[other].classes.keys():
            _explain_classes(folder, {name: set(parts[name].classes) for name in (one, other)})
        refuse_shared(folder, parts[one].files, parts[other].files)


def _folders_below(folder: Path) -> list[str]:
    """A folder and all below it, by their names relative to it; links are not followed."""
    found = []
    for at, inner, _ in os.walk(folder):
        inner[:] = sorted(name for name in inner if not is_left_behind(name))
        found.append(os.path.relpath(at, folder).removeprefix("."))
    return found


def _class_folders(root: Path) -> list[str]:
    """Their names, sorted."""
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


def _explain_classes(folder: Path, classes: Mapping[str, set[str]]) -> None:
    """Raises DataError for two parts with different classes."""
    (one, in_one), (other, in_other) = classes.items()
    differ = sorted(in_one ^ in_other)
    alone = next((part for part, names in classes.items() if len(names) == 1), None)
    advice = "both need the same folders"
    if alone is not None:
        advice = (
            f"sort the images of {folder / alone / min(classes[alone])} into one folder per class"
        )
    raise DataError(
        f"{folder}/{one} has {len(in_one)} classes and {folder}/{other} has {len(in_other)}, and "
        f"{len(differ)} are in only one of them, e.g. {differ[0]}: {advice}"
    )
