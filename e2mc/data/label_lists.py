"""Published lists of the images whose labels may be used, such as SimCLR's 1 % and 10 %.

Source: github.com/google-research/simclr, imagenet_subsets (Chen et al. 2020).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from e2mc.data.errors import DataError, expect_no_pointer
from e2mc.data.files import ImageFiles


def read_label_list(
    path: Path, images: ImageFiles, count: int | None = None, tested: ImageFiles | None = None
) -> Tensor:
    """Which images a list names, one file name a line: int64 indices, ascending.

    A name alone says which image it is, whatever folders stand before it in the list. Where
    several images have one name, the folders before it decide: the image is the one whose path
    agrees with the entry for longest from its end.

    Args:
        path: the list.
        images: the training images, each of one class.
        count: how many names the list must have; None for any number.
        tested: images that no list may name.

    Raises:
        DataError: when the list cannot be read, has another number of names, names an image
            twice, one that is not among the images or one that several images are called, one of
            another class's folder or of ``tested``, or leaves a class without any.
    """
    if images.labels.ndim != 1:
        raise DataError(f"{path}: images of several classes each have no label lists")
    entries = _entries(path)
    if count is not None and len(entries) != count:
        raise DataError(f"{path} lists {len(entries):,} images, expected {count:,}: fetch it again")
    wanted = {entry.name for entry in entries}
    called, others = _called(images, wanted), _called(tested, wanted)
    absent = [entry for entry in entries if entry.name not in called]
    of_test = [entry for entry in absent if entry.name in others]
    if of_test:
        _refuse_tested(path, of_test[0], tested, others)
    if absent:
        raise DataError(
            f"{len(absent):,} of the {len(entries):,} images that {path} lists are not among the "
            f"{len(images):,} of {images.folder}, e.g. {absent[0]}: the list belongs to other "
            "images, or some are missing"
        )
    found: dict[int, PurePosixPath] = {}
    twice: list[PurePosixPath] = []
    for entry in entries:
        index, agreement = _resolve(path, entry, images, called)
        if agreement < max(_agreements(entry, tested, others), default=0):
            _refuse_tested(path, entry, tested, others)
        if index in found:
            twice.append(entry)
        found[index] = entry
    if twice:
        raise DataError(
            f"{path} lists {len(twice):,} images twice, e.g. {twice[0]}: fetch it again, or remove "
            "the second line"
        )
    chosen = torch.tensor(sorted(found), dtype=torch.long)
    labelled = torch.bincount(images.labels[chosen], minlength=len(images.classes))
    if (labelled == 0).any():
        first = int((labelled == 0).nonzero()[0])
        raise DataError(
            f"{path} lists no image of {int((labelled == 0).sum())} of the {len(images.classes)} "
            f"classes, e.g. {images.classes[first]}: the list belongs to other images"
        )
    return chosen


def _entries(path: Path) -> list[PurePosixPath]:
    """One a line; names are bytes on disk, which need not be UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error}") from None
    expect_no_pointer(path, content)
    if b"\0" in content:
        raise DataError(f"{path} is no list of names in UTF-8: save it as text in UTF-8")
    text = content.decode("utf-8-sig", "surrogateescape").replace("\r", "\n")
    return [PurePosixPath(line.strip()) for line in text.split("\n") if line.strip()]


def _called(images: ImageFiles | None, wanted: set[str]) -> dict[str, list[int]]:
    """Name without folders -> the images that are called so."""
    called: dict[str, list[int]] = {}
    if images is None:
        return called
    for i in range(len(images)):
        name = PurePosixPath(images.name(i)).name
        if name in wanted:
            called.setdefault(name, []).append(i)
    return called


def _agreements(
    entry: PurePosixPath, images: ImageFiles | None, called: dict[str, list[int]]
) -> list[int]:
    """In how many parts, from the end, each image of the entry's name agrees with it."""
    if images is None:
        return []
    return [_agreement(entry, images.name(i)) for i in called.get(entry.name, [])]


def _agreement(entry: PurePosixPath, name: str) -> int:
    pairs = zip(reversed(entry.parts), reversed(PurePosixPath(name).parts))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(entry.parts))


def _resolve(
    path: Path, entry: PurePosixPath, images: ImageFiles, called: dict[str, list[int]]
) -> tuple[int, int]:
    """The image that an entry means, and in how many parts their paths agree."""
    agreements = _agreements(entry, images, called)
    best = max(agreements)
    likely = [i for i, agreed in zip(called[entry.name], agreements) if agreed == best]
    if len(likely) > 1:
        one, other = (images.name(i) for i in likely[:2])
        raise DataError(
            f"{path} lists {entry}, which may be {one} or {other}: write the folder before the "
            "name, or give each image a name of its own"
        )
    of_class = images.classes[int(images.labels[likely[0]])]
    if best == 1 and entry.parent.name in images.classes and entry.parent.name != of_class:
        raise DataError(
            f"{path} lists {entry}, and the image of that name is {images.name(likely[0])}, of "
            "another class: the list belongs to other images"
        )
    return likely[0], best


def _refuse_tested(
    path: Path, entry: PurePosixPath, tested: ImageFiles | None, others: dict[str, list[int]]
) -> None:
    assert tested is not None
    image = tested.path(others[entry.name][0])
    raise DataError(
        f"{path} lists {entry}, which is {image}: images that are tested on cannot be trained on; "
        "take them out of the list"
    )
