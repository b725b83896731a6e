"""Small data sets to transfer to: handwritten digits, and outfits of several garments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.data.images import ImageSet, Splits
from e2mc.data.source import LabelledSource
from e2mc.data.subsets import stratified_split
from e2mc.errors import InputError

OUTFIT_CELL = 28  # an outfit is 2 x 2 cells of one garment each


def load_digits(size: int, seed: int) -> Splits:
    """The 1,797 digits of 8 x 8 pixels that scikit-learn ships (Alpaydin and Kaynak 1998).

    Resized bilinearly to ``size`` pixels; 1,000 for training, 297 for validation, 500 for testing,
    stratified by class.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = torch.from_numpy(digits.images).float().unsqueeze(1) / 16  # they run from 0 to 16
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
    images = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    whole = ImageSet(images, labels, tuple(str(digit) for digit in range(10)))
    rest, test = stratified_split(labels, 500, seed)
    train, validation = stratified_split(labels[rest], 297, seed)
    return Splits(whole.subset(rest[train]), whole.subset(rest[validation]), whole.subset(test))


def compose_outfits(source: Splits, counts: tuple[int, int, int], seed: int) -> Splits:
    """Images of one to four garments, for multi-label classification.

    Each image has 2 x 2 cells of 28 x 28 pixels; one to four of them hold a garment, drawn without
    replacement from the same split of ``source``, so that no garment is in two splits. A label is
    1 for every class that is in the image.

    Args:
        source: single garments (N, 1, 28, 28).
        counts: images for training, validation and testing.
        seed: decides which garments go where.
    """
    parts = (source.train, source.validation, source.test)
    train, validation, test = (
        _compose(part, count, torch.Generator().manual_seed(seed + index))
        for index, (part, count) in enumerate(zip(parts, counts, strict=True))
    )
    return Splits(train, validation, test)


def _compose(garments: LabelledSource, count: int, generator: torch.Generator) -> ImageSet:
    assert isinstance(garments, ImageSet), "outfits are composed of images in memory"
    cell = OUTFIT_CELL
    channels = garments.images.shape[1]
    # a garment in cell c where its rank among the four random numbers is below the drawn number
    number = torch.randint(1, 5, (count, 1), generator=generator)
    filled = torch.rand(count, 4, generator=generator).argsort(dim=1) < number
    if int(filled.sum()) > len(garments):
        raise InputError(
            f"{count} outfits need {int(filled.sum())} garments, there are {len(garments)}"
        )
    chosen = torch.randperm(len(garments), generator=generator)[: int(filled.sum())]
    cells = torch.zeros(count, 4, channels, cell, cell, dtype=torch.uint8)
    cells[filled] = garments.images[chosen]
    labels = torch.zeros(count, len(garments.classes), dtype=torch.uint8)
    rows, _ = filled.nonzero(as_tuple=True)
    labels[rows, garments.labels[chosen]] = 1
    return ImageSet(_tile(cells), labels, garments.classes)


def _tile(cells: Tensor) -> Tensor:
    """(N, 4, C, h, w) -> (N, C, 2h, 2w), cells row by row."""
    count, _, channels, height, width = cells.shape
    grid = cells.view(count, 2, 2, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(count, channels, 2 * height, 2 * width)
