"""What the files of a data set hold, counted and divided into splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.images import ImageSet, Splits
from e2mc.data.label_lists import read_label_list
from e2mc.data.source import LabelledSource
from e2mc.data.subsets import stratified_split


@dataclass(frozen=True)
class Found:
    """The images of a data set as its files divide them, all in memory or all on disk.

    Attributes:
        train: to learn from.
        test: what is reported; None: they are still among those of ``train``.
        validation: what choices are made on; None: they are still among those of ``train``.
        unlabelled: more images to pre-train on, whose labels say nothing.
    """

    train: LabelledSource
    test: LabelledSource | None
    validation: LabelledSource | None = None
    unlabelled: ImageSet | None = None

    @classmethod
    def of_parts(cls, parts: Mapping[str, LabelledSource]) -> Found:
        """Of "train", "validation" and "test"; what is for validation is tested on if none is."""
        if "test" in parts:
            return cls(parts["train"], parts["test"], parts.get("validation"))
        return cls(parts["train"], parts.get("validation"))


@dataclass(frozen=True)
class Expected:
    """What a study says of a data set.

    Attributes:
        classes: how many there must be.
        train: how many images that are not tested on, those for validation among them.
        test: how many images that are tested on.
        validation: how many images that choices are made on.
        unlabelled: how many more images to pre-train on.
        seed: decides which images are taken out of others.
    """

    classes: int
    train: int
    test: int
    validation: int = 0
    unlabelled: int = 0
    seed: int = 0


def divide(
    found: Found,
    expected: Expected,
    where: object,
    kind: str,
    lists: Mapping[str, tuple[Path, int]] | None = None,
) -> Splits:
    """The splits of a data set, when there are as many images as there should be.

    Args:
        found: its images.
        expected: how many there must be.
        where, kind: its folder, and its format or name, for messages.
        lists: name -> file with the names of labelled training images, and how many it must have.
            None of them is held out, so that the lists stay whole.

    Raises:
        DataError: with counts, with the class that has too few images, or when a list is not what
            it should be.
    """
    _expect_counts(found, expected, where, kind)
    train, test = found.train, found.test
    if test is None:
        rest, taken = _some_of_every_class(train, expected, where)
        train, test = train.subset(rest), train.subset(taken)
    chosen: dict[str, Tensor] = {}
    for name, (path, count) in (lists or {}).items():
        if not isinstance(train, ImageFiles) or found.test is None or found.validation is not None:
            raise DataError(
                f"{where} has no parts train and test alone ({kind}), which label lists are of: "
                "leave lists out"
            )
        assert isinstance(test, ImageFiles)
        chosen[name] = read_label_list(path, train, count, test)
    if found.validation is None:
        rest, held_out = _hold_out(train, chosen, expected.validation, expected.seed)
        place = torch.full((len(train),), -1)
        place[rest] = torch.arange(len(rest))
        chosen = {name: place[indices] for name, indices in chosen.items()}
        train, validation = train.subset(rest), train.subset(held_out)
    else:
        validation = found.validation
    if found.unlabelled is None:
        return Splits(train, validation, test, chosen)
    assert isinstance(train, ImageSet)
    return Splits(train, validation, test, chosen, unlabelled=train.joined(found.unlabelled))


def _expect_counts(found: Found, expected: Expected, where: object, kind: str) -> None:
    """Raises DataError with the first count that is not what it should be."""
    apart = 0 if found.validation is None else len(found.validation)
    trained = len(found.train) + apart
    counts = {"classes": (len(found.train.classes), expected.classes)}
    if found.test is None:
        counts["images"] = trained, expected.train + expected.test
    else:
        of_both = f"training images, {apart:,} of them for validation" * bool(apart)
        counts[of_both or "training images"] = trained, expected.train
        counts["test images"] = len(found.test), expected.test
    if apart:
        counts["images for validation"] = apart, expected.validation
    if expected.unlabelled:
        unlabelled = 0 if found.unlabelled is None else len(found.unlabelled)
        counts["unlabelled images"] = unlabelled, expected.unlabelled
    for what, (count, wanted) in counts.items():
        if count != wanted:
            parts = (found.train, found.validation, found.test)
            said = [getattr(part, "left_out", "") for part in parts]
            left_out = "".join(f"; {sentence}" for sentence in said if sentence)
            raise DataError(
                f"{where} has {count:,} {what}, expected {wanted:,} ({kind}{left_out}): some "
                "are missing or too many, unpack it again or correct the study's numbers"
            )


def _some_of_every_class(
    images: LabelledSource, expected: Expected, where: object
) -> tuple[Tensor, Tensor]:
    """Indices of the images to learn from and of those to test on."""
    rest, taken = stratified_split(images.labels, expected.test, expected.seed)
    for purpose, indices in (("learn from", rest), ("test on", taken)):
        counts = torch.bincount(images.labels[indices], minlength=len(images.classes))
        if (counts == 0).any():
            name = images.classes[int((counts == 0).nonzero()[0])]
            raise DataError(
                f"{where} is one folder of classes, and of {name} no image would be left to "
                f"{purpose}: add images of it, or change the study's numbers"
            )
    return rest, taken


def _hold_out(
    images: LabelledSource, lists: Mapping[str, Tensor], count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Indices of the rest and of the images held out."""
    if not count:
        return torch.arange(len(images)), torch.empty(0, dtype=torch.long)
    if images.labels.ndim != 1:
        raise DataError("images of several classes each cannot be held out: set validation to 0")
    listed = torch.zeros(len(images), dtype=torch.bool)
    for indices in lists.values():
        listed[indices] = True
    candidates = (~listed).nonzero().flatten()
    if count > len(candidates):
        raise DataError(
            f"cannot hold {count:,} images out: only {len(candidates):,} are in no label list"
        )
    chosen = candidates[stratified_split(images.labels[candidates], count, seed)[1]]
    held_out = torch.zeros(len(images), dtype=torch.bool)
    held_out[chosen] = True
    return (~held_out).nonzero().flatten(), chosen
