"""Folders of images as torchvision's ImageFolder reads them: one per class, of any name.

The parts are folders of their own (``train`` with ``val`` or ``test``, or all three, also under the
names of ``PARTS``), or there is one folder of classes, whose images are divided by a seed.
"""

from __future__ import annotations

import os
from pathlib import Path

from e2mc.data.class_folders import ClassFolders, refuse_mixed
from e2mc.data.errors import DataError
from e2mc.data.found import Found
from e2mc.data.listing import is_class_folder

# part -> what its folder may be called
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def read_folder(folder: Path) -> Found:
    """The images of a folder, ordered by class and name; classes are the folders.

    Images in folders below a class's are of that class. Images for validation are of their own
    where there are folders for all three parts; of two, the second one is tested on.

    Raises:
        DataError: when the folder does not exist, there is one class, a class has no images, parts
            have not the same classes, a part stands there under two names, or an image is in two
            parts or in two classes, or twice among those that are to be divided.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: name the one that holds a folder per class, or train/ and "
            "val/ or test/ with a folder per class each"
        )
    names = part_folders(folder)
    parts = {name: ClassFolders.read(folder, name, deep=True) for name in names.values()}
    for name, part in parts.items():
        if len(part.classes) < 2:
            raise DataError(
                f"{folder / name} has one class, {next(iter(part.classes))}: nothing can be told "
                "apart; sort the images into a folder per class, or name the folder that holds them"
            )
    refuse_mixed(folder, parts)
    if len(parts) == 1:
        _refuse_twice(folder, *parts.values())
    return Found.of_parts({part: parts[name].images(folder) for part, name in names.items()})


def _refuse_twice(folder: Path, part: ClassFolders) -> None:
    """Raises DataError when one file has two names, of which one could be tested on."""
    known: dict[tuple[int, int], str] = {}
    for name, file in part.files.items():
        other = known.setdefault((file.device, file.inode), name)
        if file.inode and other != name:  # some network disks give no numbers
            raise DataError(
                f"{folder / name} and {folder / other} are one file: one of them might be trained "
                "on and the other tested on; remove one"
            )


def part_folders(folder: Path) -> dict[str, str]:
    """Part -> name of its folder; "train" alone, without a name, for one folder of classes.

    Raises DataError when a part stands there under two names, has no folders of classes while
    nothing else does, or the training images are missing.
    """
    there = {
        part: [name for name in names if (folder / name).is_dir()] for part, names in PARTS.items()
    }
    # a class may be called train or test as well: its folder holds images and no folders
    if not any(_holds_folders(folder / name) for names in there.values() for name in names):
        _refuse_parts_without_classes(folder)
        return {"train": ""}
    for names in there.values():
        if len(names) > 1:
            raise DataError(
                f"{folder} has {names[0]}/ and {names[1]}/, which mean the same: remove or rename "
                "one of them"
            )
    found = {part: names[0] for part, names in there.items() if names}
    if "train" not in found:
        raise DataError(
            f"{folder} has {'/ and '.join(found.values())}/ and no train/: call the folder of the "
            "training images train"
        )
    return found


def _refuse_parts_without_classes(folder: Path) -> None:
    """Raises DataError when all classes of a folder would be called like parts."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_class_folder(entry))
    if names and {*names} <= {name for known in PARTS.values() for name in known}:
        raise DataError(
            f"{folder} has {'/ and '.join(names)}/ without folders of classes: sort the images of "
            "each into a folder per class; images without labels lie in one folder"
        )


def _holds_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_class_folder(entry) for entry in entries)
