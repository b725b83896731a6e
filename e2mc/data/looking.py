"""What somebody's folder of images holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.found import Expected, Found, divide
from e2mc.data.listing import is_image
from e2mc.data.on_disk import FORMATS
from e2mc.data.source import LabelledSource
from e2mc.data.subsets import evenly_spaced

UNLABELLED = "unlabelled"
LOOKED_AT = 100  # images whose size is read
SMALLEST = 16  # pixels on the shorter side
TESTED, MOST_TESTED = 0.2, 2048  # of images without labels how many are held out to measure on
FEWEST = 20  # images without labels


@dataclass(frozen=True)
class LookedAt:
    """A folder of images.

    Attributes:
        folder: where it is.
        format: how it is read.
        found: its images.
        test: how many of them are tested on.
        side: median of the shorter side, in pixels.
    """

    folder: Path
    format: str
    found: Found
    test: int
    side: int

    @property
    def classes(self) -> int:
        """How many there are; 1 where the images have no labels."""
        return len(self.found.train.classes)

    @property
    def train(self) -> int:
        """How many images are not tested on."""
        return len(self.found.train) - (self.test if self.found.test is None else 0)

    def training(self, validation: int, seed: int) -> LabelledSource:
        """The images that are trained on, as a study divides them."""
        expected = Expected(self.classes, self.train, self.test, validation, seed=seed)
        return divide(self.found, expected, self.folder, self.format).train

    def in_words(self) -> str:
        """What was found."""
        counts = f"{self.train:,} training and {self.test:,} "
        if self.format == UNLABELLED:
            found = f"no labels, {counts}held-out images"
        else:
            found = f"{self.classes:,} classes, {counts}validation images"
        return f"{found}, their shorter side {self.side} pixels (median)"


def look_at_images(folder: Path) -> LookedAt:
    """The images of ``train/<class>/`` and ``val/<class>/``, or of a folder of nothing but images.

    Raises:
        DataError: as the readers do; when there is one class, a class with one training
            image, or the images are few or tiny.
    """
    format, test = _format_of(folder)
    found = FORMATS[format](folder, None)
    train = found.train
    assert isinstance(train, ImageFiles)
    if format != UNLABELLED:
        _expect_classes(folder, train)
    side = int(median(_shorter_side(train, i) for i in evenly_spaced(len(train), LOOKED_AT)))
    if side < SMALLEST:
        raise DataError(
            f"the images of {folder} have {side} pixels on their shorter side (median), expected "
            f"at least {SMALLEST}: are they the right ones?"
        )
    return LookedAt(folder, format, found, test if found.test is None else len(found.test), side)


def _format_of(folder: Path) -> tuple[str, int]:
    """How a folder is to be read, and how many images are to be held out of it."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: name one that holds train/<class>/ and val/<class>/, or "
            "images alone"
        )
    parts = [part for part in ("train", "val") if (folder / part).is_dir()]
    if len(parts) == 2:
        return "imagenet", 0
    if parts:
        raise DataError(
            f"{folder} has {parts[0]}/ alone: expected train/<class>/ and val/<class>/, or images "
            "without folders"
        )
    count = sum(is_image(path.name) for path in folder.iterdir())
    if count < FEWEST:
        raise DataError(
            f"{folder} has neither train/ and val/ nor {FEWEST} images that lie in it directly "
            f"(found {count}): sort them into train/<class>/ and val/<class>/, or put images "
            "without labels into one folder"
        )
    return UNLABELLED, min(MOST_TESTED, round(TESTED * count))


def _expect_classes(folder: Path, train: ImageFiles) -> None:
    if len(train.classes) < 2:
        raise DataError(
            f"{folder}/train has one class, {train.classes[0]}: nothing can be told apart; sort "
            "the images into a folder per class"
        )
    counts = train.labels.bincount(minlength=len(train.classes))
    if counts.min() < 2:
        alone = train.classes[int(counts.argmin())]
        raise DataError(
            f"class {alone} of {folder}/train has one image, expected at least 2, of which one is "
            "held out for every choice: add images or remove the class from train and val"
        )


def _shorter_side(images: ImageFiles, index: int) -> int:
    from PIL import Image

    path = images.path(int(index))
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
