"""What images somebody has, and how a study says so."""

from __future__ import annotations

import difflib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.folder import part_folders
from e2mc.data.found import Expected, Found, divide
from e2mc.data.images import ImageSet
from e2mc.data.listing import is_class_folder, is_image
from e2mc.data.on_disk import FORMATS
from e2mc.data.parquet import shard_folder
from e2mc.data.source import LabelledSource
from e2mc.data.subsets import evenly_spaced
from e2mc.data.torchvision_sets import (
    COLOUR,
    EMNIST_SPLITS,
    SETS,
    Selection,
    read_torchvision,
)

UNLABELLED = "unlabelled"
LOOKED_AT = 100  # images whose size is read
SMALLEST = 16  # pixels on the shorter side
TESTED = 5  # of so many undivided images one is tested on
MOST_TESTED = 2048  # images without labels
FEWEST = 20  # images without labels
HELD_OUT = 0.1  # of the training images, on which every choice is made
NAMED = 3  # classes in a sentence
# what somebody may name; EMNIST is several data sets
SELECTIONS = {name: Selection(name) for name in SETS if name != "EMNIST"} | {
    f"EMNIST-{split}": Selection("EMNIST", split) for split in EMNIST_SPLITS
}
FOLDERS = (
    "a folder with train/<class>/ and val/<class>/ or test/<class>/, with a folder per class "
    "alone, with Parquet shards, or with images alone"
)


@dataclass(frozen=True)
class Counted:
    """Images as a study names and counts them.

    Attributes:
        label: what a person calls them.
        dataset: of the study's data: "on-disk" or "torchvision".
        named: the keys that say which images they are.
        classes: how many there are; one is none, the images are not labelled.
        train: how many images are not tested on, those for validation among them.
        test: how many images are tested on.
        divided: whether those are still to be taken out of all images, by seed.
        apart: images for validation that the files keep apart.
        files: whether they are files of any shape, and not all one square in memory.
    """

    label: str
    dataset: str
    named: dict[str, str | Path]
    classes: int
    train: int
    test: int
    divided: bool = False
    apart: int = 0
    files: bool = True

    @property
    def labelled(self) -> bool:
        """Whether it is known what the images show."""
        return self.classes > 1

    @property
    def validation(self) -> int:
        """What is kept apart, else a tenth, and one of each class at least; none unlabelled."""
        if not self.labelled:
            return 0
        return self.apart or max(self.classes, round(HELD_OUT * self.train))


@dataclass(frozen=True)
class LookedAt:
    """Images that are there.

    Attributes:
        counted: as a study names and counts them.
        found: the images.
        side: median of the shorter side, in pixels.
    """

    counted: Counted
    found: Found
    side: int

    def training(self, seed: int) -> LabelledSource:
        """The images that are trained on, as a study divides them."""
        images = self.counted
        expected = Expected(images.classes, images.train, images.test, images.validation, seed=seed)
        return divide(self.found, expected, images.label, images.dataset).train

    def in_words(self) -> str:
        """What was found."""
        images, names = self.counted, self.found.train.classes
        counts = f"{images.train:,} training"
        if images.apart:
            counts += f" ({images.apart:,} of them for validation)"
        if images.labelled:
            more = ", …" * (len(names) > NAMED)
            what = f"{images.classes:,} classes ({', '.join(names[:NAMED])}{more})"
        else:
            what = "no labels"
        tested = "held-out" if images.divided else "test"
        return (
            f"{what}, {counts} and {images.test:,} {tested} images, their shorter side "
            f"{self.side} pixels (median)"
        )


def known_images(name: str) -> Path | Selection:
    """A folder that is there, or a data set of torchvision, whatever its case and hyphens.

    Raises:
        DataError: when the name is neither; with names that are near.
    """
    path = Path(os.path.expanduser(name))
    if path.exists():
        return path
    sets = {_plain(known): selection for known, selection in SELECTIONS.items()}
    if _plain(name) in sets:
        return sets[_plain(name)]
    near = difflib.get_close_matches(_plain(name), sets)
    meant = [known for known in SELECTIONS if _plain(known) in near]
    hint = f" (did you mean {' or '.join(meant)}?)" if meant else ""
    raise DataError(
        f"{name} is neither a folder that is there nor a data set of torchvision{hint}: name "
        f"{FOLDERS}, or one of {', '.join(SELECTIONS)}"
    )


def channels_of(images: Path | Selection) -> int:
    """Of an image: 1, grey, or 3, in colour, as which every file is read."""
    return images.channels if isinstance(images, Selection) else COLOUR


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


def look_at_images(images: Path | Selection, root: Path | None, data: Path) -> LookedAt:
    """The images of a folder, or of a data set of torchvision.

    Args:
        images: the folder, or the data set.
        root: what torchvision calls so, where its data sets are; None to have one downloaded.
        data: the folder of the study's images, in which it unpacks and downloads.

    Raises:
        DataError: as the readers do; when there is one class, a class with too few training
            images to hold one out for each purpose, or the images are few or tiny.
    """
    named: dict[str, str | Path]
    if isinstance(images, Selection):
        dataset, label, named = "torchvision", images.name, {"name": images.name}
        if images.split is not None:
            named["split"] = images.split
        root = None if root is None else Path(os.path.expanduser(root))
        found, where = read_torchvision(images, root, data / "downloads")
    else:
        format, where = _format_of(images), images
        dataset, label = "on-disk", images.resolve().name
        named = {"format": format, "folder": images.resolve()}
        found = FORMATS[format](images, data / "images")
    if named.get("format") != UNLABELLED:
        _expect_classes(where, found)
    side = _shorter_side(found.train)
    if side < SMALLEST:
        raise DataError(
            f"the images of {where} have {side} pixels on their shorter side (median), expected "
            f"at least {SMALLEST}: are they the right ones?"
        )
    return LookedAt(_counted(label, dataset, named, found), found, side)


def _counted(label: str, dataset: str, named: dict[str, str | Path], found: Found) -> Counted:
    """The images that were found, and how many of undivided ones are to be tested on."""
    divided = found.test is None
    test = _test_count(found.train) if found.test is None else len(found.test)
    apart = 0 if found.validation is None else len(found.validation)
    return Counted(
        label=label,
        dataset=dataset,
        named=named,
        classes=len(found.train.classes),
        train=len(found.train) + apart - (test if divided else 0),
        test=test,
        divided=divided,
        apart=apart,
        files=isinstance(found.train, ImageFiles),
    )


def _format_of(folder: Path) -> str:
    """How a folder is to be read."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name {FOLDERS}")
    parts = part_folders(folder)
    if parts == {"train": "train", "validation": "val"}:
        return "imagenet"
    if parts != {"train": ""}:
        return "folder"
    if any(shard_folder(folder).glob("*.parquet")):
        return "parquet"
    with os.scandir(folder) as entries:
        there = list(entries)
    count = sum(is_image(entry.name) for entry in there)
    if count >= FEWEST:
        return UNLABELLED
    if not any(is_class_folder(entry) for entry in there):
        raise DataError(
            f"{folder} has neither folders of classes nor {FEWEST} images that lie in it directly "
            f"(found {count}): sort them into a folder per class, or put images without labels "
            "into one folder"
        )
    return "folder"


def _expect_classes(where: object, found: Found) -> None:
    """Raises DataError unless there are classes, each with images for every purpose."""
    train = found.train
    if len(train.classes) < 2:
        raise DataError(
            f"{where} has one class, {train.classes[0]}: nothing can be told apart; sort the "
            "images into a folder per class"
        )
    purposes = ["trained on"]
    if found.validation is None:
        purposes.append("held out for every choice")
    if found.test is None:
        purposes.append("tested on")
    counts = train.labels.bincount(minlength=len(train.classes))
    if counts.min() < len(purposes):
        count, fewest = int(counts.min()), train.classes[int(counts.argmin())]
        what = f"{'' if found.test is None else 'training '}image{'s' * (count != 1)}"
        raise DataError(
            f"{where} has {count} {what} of class {fewest}, expected at least {len(purposes)}, of "
            f"which one is {', one '.join(purposes)}: add images, or remove the class"
        )


def _test_count(images: LabelledSource) -> int:
    """How many are to be tested on, so that the share of every class has one of them."""
    total = len(images)
    if len(images.classes) == 1:
        return min(MOST_TESTED, round(total / TESTED))
    smallest = int(images.labels.bincount().min())
    return math.ceil(total / min(TESTED, smallest))


def _shorter_side(images: LabelledSource) -> int:
    """The median over some images, in pixels."""
    if isinstance(images, ImageSet):
        return min(images.images.shape[2:])
    assert isinstance(images, ImageFiles)
    paths = (images.path(int(index)) for index in evenly_spaced(len(images), LOOKED_AT))
    return int(median(_side_of(path) for path in paths))


def _side_of(path: Path) -> int:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
