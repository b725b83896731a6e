"""What somebody's folder of images holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.imagenet import read_imagenet
from e2mc.data.subsets import evenly_spaced

LOOKED_AT = 100  # images whose size is read
SMALLEST = 16  # pixels on the shorter side


@dataclass(frozen=True)
class LookedAt:
    """A folder of images.

    Attributes:
        format: how it is read.
        classes, train, test: how many there are.
        side: median of the shorter side, in pixels.
    """

    format: str
    classes: int
    train: int
    test: int
    side: int

    def in_words(self) -> str:
        return (
            f"{self.classes:,} classes, {self.train:,} training and {self.test:,} validation "
            f"images, their shorter side {self.side} pixels (median)"
        )


def look_at_images(folder: Path) -> LookedAt:
    """Counts the images of ``train/<class>/`` and ``val/<class>/``, and reads some sizes.

    Raises:
        DataError: as ``read_imagenet`` does; when there is one class, a class with one training
            image, or the images are tiny.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the one that holds train/ and val/")
    train, val = read_imagenet(folder)
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
    side = int(median(_shorter_side(train, i) for i in evenly_spaced(len(train), LOOKED_AT)))
    if side < SMALLEST:
        raise DataError(
            f"the images of {folder} have {side} pixels on their shorter side (median), expected "
            f"at least {SMALLEST}: are they the right ones?"
        )
    return LookedAt("imagenet", len(train.classes), len(train), len(val), side)


def _shorter_side(images: ImageFiles, index: int) -> int:
    from PIL import Image

    path = images.path(int(index))
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
