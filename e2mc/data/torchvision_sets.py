"""Data sets of torchvision, checked by its checksums.

What torchvision keeps as one array is read into memory, STL10 with its unlabelled part (2.9 GB) at
most; what it keeps as image files stays on disk.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.found import Found
from e2mc.data.idx import parse_idx
from e2mc.data.images import ImageSet
from e2mc.data.listing import File, find_all, refuse_shared, refuse_two_labels
from e2mc.errors import InputError, expect_known

GREY, COLOUR = 1, 3
EMNIST_ARCHIVE = "EMNIST/raw/gzip.zip"
EMNIST_SPLITS = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
# what torchvision has and other settings read
ELSEWHERE = {
    "ImageNet": "dataset: on-disk with format: imagenet",
    "INaturalist": "dataset: on-disk with format: inaturalist-2018",
    "VOCDetection": "dataset: on-disk with format: voc2007",
    "VOCSegmentation": "dataset: on-disk with format: voc2007",
    "ImageFolder": "dataset: on-disk with format: folder",
    "DatasetFolder": "dataset: on-disk with format: folder",
}


@dataclass(frozen=True)
class Selection:
    """What is wanted of a data set.

    Attributes:
        name: key of ``SETS``.
        split: of EMNIST, one of ``EMNIST_SPLITS``; None for the others.
        unlabelled: the unlabelled images of STL10, too.
    """

    name: str
    split: str | None = None
    unlabelled: bool = False

    def __post_init__(self) -> None:
        if self.name in ELSEWHERE:
            raise InputError(f"torchvision's {self.name} is read by {ELSEWHERE[self.name]}")
        near = [name for name in SETS if name.lower() == self.name.lower().replace("-", "")]
        if near and self.name not in SETS:
            raise InputError(f"data set {self.name!r} does not exist, did you mean {near[0]!r}?")
        expect_known(self.name, SETS, "data set")
        if self.name == "EMNIST":
            expect_known(self.split, EMNIST_SPLITS, "split of EMNIST")
        elif self.split is not None:
            raise InputError(f"split: {self.name} has no splits to choose from: leave it out")
        if self.unlabelled and self.name != "STL10":
            raise InputError(f"unlabelled: {self.name} has no unlabelled images: leave it out")

    @property
    def channels(self) -> int:
        """Of an image: 1, grey, or 3, in colour."""
        return SETS[self.name].channels

    @property
    def in_memory(self) -> bool:
        """Whether its images are read into memory."""
        return SETS[self.name].in_memory


@dataclass(frozen=True)
class TorchvisionSet:
    """How a data set of torchvision is read.

    Attributes:
        channels: of an image, 1 or 3.
        files: of its class -> path below the folder -> MD5, or None where there is none to check.
        read: its images, from (its class, the folder, what is wanted).
        in_memory: whether they are read into memory.
    """

    channels: int
    files: Callable[[Any], dict[str, str | None]]
    read: Callable[[Any, Path, Selection], Found]
    in_memory: bool = True


def read_torchvision(
    selection: Selection, folder: Path | None, download_to: Path
) -> tuple[Found, Path]:
    """The images of a data set of torchvision, and the folder that they are in.

    Args:
        selection: which one.
        folder: what torchvision calls the root; None, or one that has none of its files, to have
            them downloaded.
        download_to: a folder for them.

    Raises:
        DataError: when the folder does not exist, a file is missing or is not the published one
            (MD5), or the download fails.
    """
    from torchvision import datasets

    kind, known = getattr(datasets, selection.name), SETS[selection.name]
    files = known.files(kind)
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: set data_folders.torchvision in config.yaml to the one "
            f"that holds {next(iter(files))}, or to null to have {selection.name} downloaded"
        )
    if folder is None or not any((folder / file).exists() for file in files):
        folder = download_to
        _download(kind, selection, folder, next(iter(files)))
    for file, md5 in files.items():
        _check(selection.name, folder / file, md5)
    try:
        return known.read(kind, folder, selection), folder
    except DataError:
        raise
    # files that have no checksum may hold anything
    except (OSError, ValueError, KeyError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{folder}: {selection.name} cannot be read ({' '.join(str(error).split())}): it is "
            "damaged; fetch it again"
        ) from error


def _download(kind: Any, selection: Selection, folder: Path, example: str) -> None:
    """Has torchvision fetch and unpack what is not there yet."""
    splits: list[dict[str, str]] = [{}]
    if selection.split is not None:
        splits = [{"split": selection.split}]
    elif selection.name == "SVHN":
        splits = [{"split": "train"}, {"split": "test"}]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in splits:
            kind(str(folder), download=True, **split)
    except (OSError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{selection.name} is in no folder of this machine and could not be downloaded "
            f"({' '.join(str(error).split())}): fetch it where there is a network, and set "
            f"data_folders.torchvision in config.yaml to the folder that holds {example}"
        ) from None


def _check(name: str, path: Path, md5: str | None) -> None:
    """Raises DataError unless a file is the published one."""
    if not path.exists():
        raise DataError(
            f"{path} is missing: {name} was not unpacked whole; fetch it again, or remove what "
            "there is of it"
        )
    if md5 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError(
            f"{path} has MD5 {found} ({path.stat().st_size:,} bytes), the published file has "
            f"{md5}: it is damaged or another file, fetch it again"
        )


def _batches(kind: Any) -> dict[str, str | None]:
    """The files of CIFAR and STL10."""
    files = {f"{kind.base_folder}/{file}": md5 for file, md5 in kind.train_list + kind.test_list}
    if hasattr(kind, "meta"):
        return files | {f"{kind.base_folder}/{kind.meta['filename']}": kind.meta["md5"]}
    return files | {f"{kind.base_folder}/{kind.class_names_file}": None}


def _cifar(kind: Any, folder: Path, _: Selection) -> Found:
    parts = [kind(str(folder), train=train) for train in (True, False)]
    train, test = (
        _image_set(part.data.transpose(0, 3, 1, 2), part.targets, part.classes) for part in parts
    )
    return Found(train, test)


def _stl10(kind: Any, folder: Path, selection: Selection) -> Found:
    parts = [kind(str(folder), split=split) for split in ("train", "test")]
    train, test = (_image_set(part.data, part.labels, part.classes) for part in parts)
    more = None
    if selection.unlabelled:
        pixels = kind(str(folder), split="unlabeled").data
        more = _image_set(pixels, np.zeros(len(pixels)), train.classes)
    return Found(train, test, unlabelled=more)


def _svhn_files(kind: Any) -> dict[str, str | None]:
    return {file: md5 for _, file, md5 in (kind.split_list[part] for part in ("train", "test"))}


def _svhn(kind: Any, folder: Path, _: Selection) -> Found:
    parts = [kind(str(folder), split=split) for split in ("train", "test")]
    digits = [str(digit) for digit in range(10)]
    train, test = (_image_set(part.data, part.labels, digits) for part in parts)
    return Found(train, test)


def _resources(kind: Any) -> dict[str, str | None]:
    """The files of MNIST and its likes."""
    return {f"{kind.__name__}/raw/{file}": md5 for file, md5 in kind.resources}


def _mnist(kind: Any, folder: Path, _: Selection) -> Found:
    """From the compressed files, since torchvision has no checksums of what it unpacks."""
    images, labels, test_images, test_labels = (
        _idx((folder / file).read_bytes()) for file in _resources(kind)
    )
    train = _image_set(images[:, None].numpy(), labels, kind.classes)
    return Found(train, _image_set(test_images[:, None].numpy(), test_labels, kind.classes))


def _emnist(kind: Any, folder: Path, selection: Selection) -> Found:
    """From the archive, as for MNIST; images lie on their side, as they are published."""
    assert selection.split is not None
    classes = kind.classes_split_dict[selection.split]
    first = int(classes[0] == "N/A")  # letters are numbered from 1
    sets = []
    with zipfile.ZipFile(folder / EMNIST_ARCHIVE) as archive:
        for part in ("train", "test"):
            name = f"gzip/emnist-{selection.split}-{part}"
            images = _idx(archive.read(f"{name}-images-idx3-ubyte.gz"))
            labels = _idx(archive.read(f"{name}-labels-idx1-ubyte.gz")).long() - first
            sets.append(_image_set(images[:, None].numpy(), labels, classes[first:]))
    return Found(*sets)


def _idx(compressed: bytes) -> Tensor:
    return parse_idx(bytearray(gzip.decompress(compressed)))


def _image_set(pixels: np.ndarray, labels: Any, classes: Any) -> ImageSet:
    """From uint8 (N, C, H, W) in any order of its memory, which is saved as it lies."""
    images = torch.from_numpy(np.ascontiguousarray(pixels))
    return ImageSet(images, torch.as_tensor(labels).long(), tuple(map(str, classes)))


def _image_files(base: str, **splits: str) -> TorchvisionSet:
    """A data set that torchvision keeps as files.

    Args:
        base: its folder.
        splits: part of ``Found`` -> torchvision's split.
    """

    def read(kind: Any, folder: Path, _: Selection) -> Found:
        found: dict[str, Any] = {}
        files: dict[str, dict[str, File]] = {}
        for part, split in splits.items():
            made = kind(str(folder), split=split)
            names = [str(Path(file).relative_to(folder)) for file in made._image_files]
            whose = f"{kind.__name__}'s {split}"
            files[part] = find_all(folder, names, whose, "unpack it again")
            labels = torch.tensor(made._labels, dtype=torch.long)
            refuse_two_labels(folder, files[part], labels)
            found[part] = ImageFiles.of(folder, names, labels, made.classes)
        for one, other in itertools.combinations(files.values(), 2):
            refuse_shared(folder, one, other)
        return Found(**found)

    return TorchvisionSet(COLOUR, lambda kind: {base: None}, read, in_memory=False)


SETS = {
    "CIFAR10": TorchvisionSet(COLOUR, _batches, _cifar),
    "CIFAR100": TorchvisionSet(COLOUR, _batches, _cifar),
    "STL10": TorchvisionSet(COLOUR, _batches, _stl10),
    "SVHN": TorchvisionSet(COLOUR, _svhn_files, _svhn),
    "MNIST": TorchvisionSet(GREY, _resources, _mnist),
    "FashionMNIST": TorchvisionSet(GREY, _resources, _mnist),
    "KMNIST": TorchvisionSet(GREY, _resources, _mnist),
    "EMNIST": TorchvisionSet(GREY, lambda kind: {EMNIST_ARCHIVE: kind.md5}, _emnist),
    "Food101": _image_files("food-101", train="train", test="test"),
    "FGVCAircraft": _image_files("fgvc-aircraft-2013b", train="trainval", test="test"),
    "DTD": _image_files("dtd", train="train", validation="val", test="test"),
    "Flowers102": _image_files("flowers-102", train="train", validation="val", test="test"),
}
