"""Published lists of the images whose labels may be used, such as SimCLR's 1 % and 10 %.

Source: github.com/google-research/simclr, imagenet_subsets (Chen et al. 2020).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles


def read_label_list(path: Path, images: ImageFiles, count: int | None = None) -> Tensor:
    """Which images a list names, one file name a line: int64 indices, ascending.

    Args:
        path: the list. Folders before the names are ignored: a name alone says which image it is.
        images: the training images.
        count: how many names the list must have; None for any number.

    Raises:
        DataError: when the list cannot be read, has another number of names, names a file twice,
            one that is not among the images or one that several images are called, or leaves a
            class without any.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from None
    names = [PurePosixPath(line.strip()).name for line in lines if line.strip()]
    if count is not None and len(names) != count:
        raise DataError(f"{path} lists {len(names):,} images, expected {count:,}: fetch it again")
    if len(set(names)) != len(names):
        raise DataError(f"{path} lists {len(names) - len(set(names)):,} images twice")
    called: dict[str, list[int]] = {}
    for i in range(len(images)):
        called.setdefault(PurePosixPath(images.name(i)).name, []).append(i)
    absent = [name for name in names if name not in called]
    if absent:
        raise DataError(
            f"{len(absent):,} of the {len(names):,} images that {path} lists are not among the "
            f"{len(images):,} of {images.folder}, e.g. {absent[0]}: the list belongs to other "
            "images, or some are missing"
        )
    for name in names:
        if len(called[name]) > 1:
            one, other = (images.name(i) for i in called[name][:2])
            raise DataError(
                f"{path} lists {name}, which may be {one} or {other}: give each image a name "
                "of its own"
            )
    chosen = torch.tensor([called[name][0] for name in names], dtype=torch.long).sort().values
    labelled = torch.bincount(images.labels[chosen], minlength=len(images.classes))
    if (labelled == 0).any():
        first = int((labelled == 0).nonzero()[0])
        raise DataError(
            f"{path} lists no image of {int((labelled == 0).sum())} of the {len(images.classes)} "
            f"classes, e.g. {images.classes[first]}: the list belongs to other images"
        )
    return chosen
