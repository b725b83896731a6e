"""Fashion-MNIST: 70,000 photographs of clothing, 28 x 28 pixels, 10 classes.

Source: Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from pathlib import Path

from torch import Tensor

from e2mc.data.debian import packages, unpack
from e2mc.data.errors import DataError
from e2mc.data.idx import parse_idx
from e2mc.data.images import ImageSet
from e2mc.errors import InputError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# MD5 of each file as published by its authors (github.com/zalandoresearch/fashion-mnist) and as
# published by Debian, whose package holds the same bytes compressed anew
MD5 = {
    "train-images-idx3-ubyte.gz": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "cf8536b0aa1a6ac5fa3f23001093305c",
    ),
    "train-labels-idx1-ubyte.gz": (
        "25c81989df183df01b3e8a0aad5dffbe",
        "10bea18fdb374794d4bb42e356e600c9",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "bef4ecab320f06d8554ea6380940ec79",
        "f78720b4224f21cce2f2ccf2d7a94c9a",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "bb300cfdad3c16e7a12a480ee83cd310",
        "0d30e22e447f3c33dab9ed536400ac01",
    ),
}
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")


def load_fashion_mnist(folder: Path) -> tuple[ImageSet, ImageSet]:
    """The 60,000 training and the 10,000 test images from the four published files.

    Raises DataError when a file is missing or is not the published one (MD5).
    """
    return _load(folder, "train"), _load(folder, "t10k")


def fetch_fashion_mnist(folder: Path | None, download_to: Path) -> Path:
    """A folder with the four files, from the first of these that has them.

    1. ``folder``, when given: there or nowhere;
    2. Debian's package dataset-fashion-mnist, when it is installed;
    3. the same package through apt, unpacked into ``download_to``;
    4. torchvision's download into ``download_to``.

    Raises DataError when none of them has them.
    """
    if folder is not None:
        folder = Path(os.path.expanduser(folder))
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder: set data_folders.fashion-mnist in config.yaml to the "
                f"folder that holds {', '.join(MD5)}, or to null to have them fetched"
            )
        return folder
    installed = Path("/") / DEBIAN_FOLDER
    for candidate in (installed, download_to / DEBIAN_FOLDER, download_to / "FashionMNIST/raw"):
        if all((candidate / name).is_file() for name in MD5):
            return candidate
    tried = []
    for attempt in (_apt, _torchvision):
        try:
            return attempt(download_to)
        except (OSError, RuntimeError) as error:
            tried.append(f"{attempt.__name__.strip('_')}: {error}")
    raise DataError(
        f"Fashion-MNIST could not be fetched ({'; '.join(tried)}): put {', '.join(MD5)} into a "
        "folder and name it in config.yaml under data_folders.fashion-mnist"
    )


def _apt(download_to: Path) -> Path:
    """Unpacks Debian's package."""
    download_to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=download_to.resolve()) as scratch:
        for _, package in packages([DEBIAN_PACKAGE], Path(scratch)):
            unpack(package, download_to)
    return download_to / DEBIAN_FOLDER


def _torchvision(download_to: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(download_to), download=True)
    return download_to / "FashionMNIST" / "raw"


def _load(folder: Path, part: str) -> ImageSet:
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    path = folder / f"{part}-labels-idx1-ubyte.gz"
    labels = _read_idx(path).long()
    try:
        return ImageSet(images.unsqueeze(1), labels, CLASSES)
    except InputError as error:
        raise DataError(f"{path} does not fit its images ({error}): fetch both again") from None


def _read_idx(path: Path) -> Tensor:
    """One of the published files."""
    try:
        compressed = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}; expected the published file of Fashion-MNIST"
        ) from error
    found = hashlib.md5(compressed, usedforsecurity=False).hexdigest()
    if found not in MD5[path.name]:
        raise DataError(
            f"{path} has MD5 {found} ({len(compressed):,} bytes), the published file has "
            f"{' or '.join(MD5[path.name])}: it is damaged or another file, fetch it again"
        )
    return parse_idx(bytearray(gzip.decompress(compressed)))
