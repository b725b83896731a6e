"""Labelled images in memory, and data sets in a file."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.source import Batch, LabelledSource, check_labels, recipe_of_each_view
from e2mc.data.views import Normalisation, PlainView, ViewRecipe, plain_view, random_views
from e2mc.errors import InputError


@dataclass(frozen=True)
class ImageSet:
    """Images of one size with their labels.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,) class numbers, or uint8 (N, K) with a 1 for every class in the image.
        classes: the K class names.

    Raises:
        ValueError: when types, lengths or class numbers do not fit together.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise InputError(
                "images must be uint8 of shape (N, C, H, W), found "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        check_labels(self.labels, len(self.images), self.classes)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    def views(
        self,
        batches: Iterable[Batch],
        recipes: Sequence[ViewRecipe],
        normalisation: Normalisation,
        device: str | torch.device,
    ) -> Iterator[list[Tensor]]:
        """Random views of the images, see ``ImageSource.views``."""
        flat = recipe_of_each_view(recipes)
        for batch in batches:
            images = self.images[batch.local_indices].to(device)
            yield [
                random_views(images, recipe, normalisation, draws)
                for recipe, draws in zip(flat, batch.draws(recipes, self.channels), strict=True)
            ]

    def plain_views(
        self,
        view: PlainView,
        normalisation: Normalisation,
        device: str | torch.device,
        batch_size: int,
    ) -> Iterator[Tensor]:
        """Every image in order, without anything random, see ``LabelledSource.plain_views``."""
        for images in self.images.split(batch_size):
            yield plain_view(images.to(device), normalisation, view)

    def subset(self, indices: Tensor) -> ImageSet:
        """The images at ``indices`` (int64), in that order."""
        return ImageSet(self.images[indices], self.labels[indices], self.classes)

    def joined(self, more: ImageSet) -> ImageSet:
        """These images and more of their size, to pre-train on: none of them has a label."""
        images = torch.cat([self.images, more.images])
        none = torch.zeros(len(images), len(self.classes), dtype=torch.uint8)
        return ImageSet(images, none, self.classes)

    def content(self) -> dict[str, Tensor]:
        """What ``Splits`` saves of it."""
        return {"images": self.images, "labels": self.labels}


PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """A data set ready for use: training images, a held-out part of them, and the test images.

    Every choice (learning rate, regulariser, coefficients, epoch) is made on ``validation``;
    ``test`` is only reported. Where no images are held out, as in the papers, the best epoch is
    that on ``test``.

    Attributes:
        train, validation, test: all in memory or all on disk.
        lists: name -> training images (int64) that a published list of labels names.
        unlabelled: the training images and more, to pre-train on; None: the training images alone.
    """

    train: LabelledSource
    validation: LabelledSource
    test: LabelledSource
    lists: dict[str, Tensor] = field(default_factory=dict)
    unlabelled: LabelledSource | None = None

    @property
    def pretraining(self) -> LabelledSource:
        """The images to pre-train on, whose labels are not looked at."""
        return self.train if self.unlabelled is None else self.unlabelled

    @property
    def parts(self) -> dict[str, LabelledSource]:
        """The images by the name of their part."""
        found: dict[str, LabelledSource] = {name: getattr(self, name) for name in PARTS}
        return found if self.unlabelled is None else found | {"unlabelled": self.unlabelled}

    def save(self, path: Path) -> None:
        """Writes the data set with its digest.

        A file that holds the same bytes stays untouched, and one that lists the same images in
        another folder keeps its time: what depends on a data set depends on its content.
        """
        from e2mc.state import atomic_path

        content: dict[str, object] = {"classes": list(self.train.classes), "lists": self.lists}
        for name, part in self.parts.items():
            content |= {f"{name}_{key}": value for key, value in part.content().items()}
        content["digest"] = content_digest(self)
        saved = io.BytesIO()
        torch.save(content, saved)
        if path.is_file() and path.read_bytes() == saved.getbuffer():
            return
        former = _time_of(path, content["digest"])
        with atomic_path(path) as temporary:
            temporary.write_bytes(saved.getbuffer())
        if former is not None:
            os.utime(path, ns=(former, former))

    @classmethod
    def load(cls, path: Path) -> Splits:
        """Reads what ``save`` wrote; the images stay on disk until they are touched.

        Raises DataError when the file is damaged or of another version of this package.
        """
        content = _read(path)
        content.pop("digest", None)
        kind = ImageSet if "train_images" in content else ImageFiles
        classes = tuple(content.pop("classes"))
        lists = content.pop("lists")
        parts: dict[str, dict] = {}
        for name, value in content.items():
            part, _, key = name.partition("_")
            parts.setdefault(part, {})[key] = value
        return cls(
            **{part: kind(classes=classes, **item) for part, item in parts.items()}, lists=lists
        )


def _read(path: Path) -> dict[str, Any]:
    """What ``Splits.save`` wrote, see ``Splits.load``."""
    try:
        content = torch.load(path, weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{path} is damaged ({str(error).splitlines()[0]}): make it again, "
            f"`snakemake --cores 1 --force {path}`"
        ) from error
    if not isinstance(content, dict) or not {"classes", "lists"} <= content.keys():
        raise DataError(
            f"{path} is not a data set of this version: make it again, "
            f"`snakemake --cores 1 --force {path}`"
        )
    return content


def content_digest(splits: Splits) -> str:
    """64 hexadecimal digits of the images, wherever they lie.

    They change with the classes, with the order, the labels and the split of the images and with
    the label lists; with the pixels of images in memory, and with the names of images on disk below
    their folder. The folder, the pixels on disk and the file that a data set is saved in are not
    part of them.
    """
    digest = hashlib.sha256()

    def add(name: str, value: bytes | memoryview) -> None:
        """Lengths are part of it, so that no two contents run together into the same bytes."""
        digest.update(f"{name} {len(value)}\n".encode())
        digest.update(value)

    def add_tensor(name: str, tensor: Tensor) -> None:
        add(f"{name} {tensor.dtype} {tuple(tensor.shape)}", _bytes(tensor))

    for label in splits.train.classes:
        add("class", os.fsencode(label))
    for name, part in splits.parts.items():
        add_tensor(f"{name} labels", part.labels)
        if isinstance(part, ImageFiles):
            names = part.encoded_names()
            add_tensor(f"{name} lengths", torch.tensor([len(encoded) for encoded in names]))
            add(f"{name} names", b"".join(names))
        else:
            assert isinstance(part, ImageSet)
            add_tensor(f"{name} images", part.images)
    for name, rows in sorted(splits.lists.items()):
        add_tensor(f"list {name}", rows)
    return digest.hexdigest()


def read_digest(path: Path) -> str:
    """The ``content_digest`` of a saved data set, without reading its images.

    Raises DataError as ``Splits.load`` does.
    """
    return _read(path).get("digest") or content_digest(Splits.load(path))  # older files have none


def _time_of(path: Path, digest: object) -> int | None:
    """When a data set was saved, in nanoseconds; None where it is not there or of other images."""
    try:
        return path.stat().st_mtime_ns if read_digest(path) == digest else None
    except (FileNotFoundError, DataError):
        return None


def _bytes(tensor: Tensor) -> memoryview:
    """Of gigabytes there is no copy."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
