"""Labelled images on disk: decoded once per batch by worker processes, finished on the device.

A worker reads a file, decodes it once and cuts every crop out of it, as bytes. Everything else
(flip, colours, blur, normalisation) is done for a whole batch at a time where the model is.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from e2mc.data.errors import LFS_POINTER, DataError, expect_no_pointer
from e2mc.data.source import Batch, check_labels, recipe_of_each_view
from e2mc.data.views import Normalisation, PlainView, ViewRecipe, finish_view

PIECE = 16  # images that a worker decodes before it hands them over
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# modes of Pillow that hold 8 bits a channel or fewer, and that it converts to RGB
EIGHT_BITS = frozenset(
    ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
)
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262  # tags
ATTEMPTS = 10  # boxes that are tried before the centre is taken, as in torchvision

# (3, h, w) bytes and four numbers in [0, 1) -> (3, size, size) bytes
Cut = Callable[[Tensor, Sequence[float]], Tensor]


@dataclass(frozen=True)
class ImageFiles:
    """Labelled images on disk.

    A million Python strings would be copied into every worker; the names are one tensor instead.

    Attributes:
        folder: what the names are relative to.
        names: uint8, the names of M files as bytes, which is what they are on disk, one after the
            other.
        ends: int64 (M,), where each name ends.
        rows: int64 (N,), which file each image is.
        labels: int64 (N,) class numbers, or int8 (N, K): 1 for a class in the image, 0 for not, -1
            for one that is hard to see.
        classes: the K class names.
        left_out: what lies in the folder and is named like an image, but is none; not saved.

    Raises:
        ValueError: when lengths or class numbers do not fit together.
    """

    folder: str
    names: Tensor
    ends: Tensor
    rows: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    left_out: str = ""

    def __post_init__(self) -> None:
        check_labels(self.labels, len(self.rows), self.classes)

    @classmethod
    def of(
        cls, folder: Path, files: Sequence[str], labels: Tensor, classes: Sequence[str]
    ) -> ImageFiles:
        """From names relative to ``folder``."""
        encoded = [os.fsencode(name) for name in files]
        ends = torch.tensor([len(name) for name in encoded], dtype=torch.long).cumsum(0)
        names = torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8)
        rows = torch.arange(len(encoded))
        return cls(str(Path(folder).resolve()), names, ends, rows, labels, tuple(classes))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def channels(self) -> int:
        return 3

    def name(self, index: int) -> str:
        """The file of an image, relative to the folder."""
        row = int(self.rows[index])
        start = int(self.ends[row - 1]) if row else 0
        return os.fsdecode(bytes(self.names[start : int(self.ends[row])].numpy()))

    def encoded_names(self) -> list[bytes]:
        """All names, as they are on disk, in the order of the images."""
        names, ends = self.names.numpy().tobytes(), [0, *self.ends.tolist()]
        return [names[ends[row] : ends[row + 1]] for row in self.rows.tolist()]

    def path(self, index: int) -> Path:
        return Path(self.folder) / self.name(index)

    def subset(self, indices: Tensor) -> ImageFiles:
        """The images at ``indices`` (int64), in that order."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def views(
        self,
        batches: Iterable[Batch],
        recipes: Sequence[ViewRecipe],
        normalisation: Normalisation,
        device: str | torch.device,
    ) -> Iterator[list[Tensor]]:
        """Random views of the images, see ``ImageSource.views``.

        Raises:
            DataError: names a file that cannot be decoded.
        """
        flat = recipe_of_each_view(recipes)
        waiting: deque = deque()

        def requests() -> Iterator[tuple[list[int], np.ndarray]]:
            for batch in batches:
                draws = batch.draws(recipes, self.channels)
                indices = batch.local_indices
                boxes = torch.stack([drawn.box for drawn in draws], dim=1).numpy()
                starts = range(0, max(len(indices), 1), PIECE)  # a rank's part may be empty
                waiting.append((draws, len(starts)))
                for start in starts:
                    piece = slice(start, start + PIECE)
                    yield indices[piece].tolist(), boxes[piece]

        cuts: list[Any] = [partial(random_crop, recipe=recipe) for recipe in flat]
        loaded = self._load(requests(), cuts, [recipe.size for recipe in flat], device)
        for first in loaded:
            draws, pieces = waiting.popleft()
            parts = [first, *(next(loaded) for _ in range(pieces - 1))]
            yield [
                finish_view(torch.cat(crops), recipe, normalisation, drawn)
                for crops, recipe, drawn in zip(zip(*parts, strict=True), flat, draws, strict=True)
            ]

    def plain_views(
        self,
        view: PlainView,
        normalisation: Normalisation,
        device: str | torch.device,
        batch_size: int,
    ) -> Iterator[Tensor]:
        """Every image in order, without anything random, see ``LabelledSource.plain_views``.

        Raises:
            DataError: names a file that cannot be decoded.
        """
        none = np.zeros((PIECE, 1, 4), dtype=np.float32)
        pieces = [
            piece.tolist()
            for batch in torch.arange(len(self)).split(batch_size)
            for piece in batch.split(PIECE)
        ]
        requests = ((piece, none[: len(piece)]) for piece in pieces)
        waiting: list[Tensor] = []
        seen = 0
        cuts: list[Cut] = [partial(plain_crop, view=view)]
        for [crops] in self._load(requests, cuts, [view.size], device, most=len(pieces)):
            waiting.append(crops)
            seen += len(crops)
            if seen % batch_size == 0 or seen == len(self):
                yield normalisation(torch.cat(waiting).float() / 255)
                waiting = []

    def broken(self) -> Iterator[str]:
        """Decodes every file and yields a sentence for each one that cannot be."""
        pieces = torch.arange(len(self)).split(1)
        requests = ((piece.tolist(), np.zeros((1, 0, 4))) for piece in pieces)
        for found in _loader(_Crops(self, [], []), requests, False, len(pieces)):
            if isinstance(found, str):
                yield found

    def _load(
        self,
        requests: Iterator[tuple[list[int], np.ndarray]],
        cuts: list[Cut],
        sizes: list[int],
        device: str | torch.device,
        most: int | None = None,
    ) -> Iterator[list[Tensor]]:
        """For each piece one uint8 (n, 3, size, size) per cut on the device, in order."""
        pinned = torch.device(device).type == "cuda"
        for crops in _loader(_Crops(self, cuts, sizes), requests, pinned, most):
            if isinstance(crops, str):
                raise DataError(crops)
            count = len(crops) // sum(3 * size**2 for size in sizes)
            crops = crops.to(device, non_blocking=True)
            parts = crops.split([3 * count * size**2 for size in sizes])
            yield [
                part.view(count, size, size, 3).permute(0, 3, 1, 2)
                for part, size in zip(parts, sizes, strict=True)
            ]

    def content(self) -> dict[str, Any]:
        """What ``Splits`` saves of it."""
        parts = ("folder", "names", "ends", "rows", "labels")
        return {part: getattr(self, part) for part in parts}


class _Crops(Dataset):
    """What a worker does: (images, numbers (n, cuts, 4)) -> all crops in one tensor of bytes.

    One tensor, because each one that is handed over costs a file descriptor. A file that cannot be
    decoded comes back as a sentence: an exception would come back as a page of traceback.
    """

    def __init__(self, files: ImageFiles, cuts: list[Cut], sizes: list[int]) -> None:
        self.files, self.cuts, self.sizes = files, cuts, sizes

    def __getitem__(self, piece: tuple[list[int], np.ndarray]) -> Tensor | str:
        indices, boxes = piece
        found = [
            torch.empty((len(indices), size, size, 3), dtype=torch.uint8) for size in self.sizes
        ]
        for i, index in enumerate(indices):
            try:
                image = decode(self.files.path(index))
            except DataError as error:
                return str(error)
            for crops, cut, numbers in zip(found, self.cuts, boxes[i].tolist(), strict=True):
                crops[i] = cut(image, numbers).permute(1, 2, 0)
        return torch.cat([crops.flatten() for crops in found]) if found else torch.empty(0)


def _loader(
    crops: _Crops, requests: Iterator[Any], pinned: bool, most: int | None
) -> Iterator[Tensor | str]:
    workers = usable_cores()
    if most is not None:
        workers = min(workers, most) if most > 1 else 0
    return iter(
        DataLoader(crops, sampler=requests, batch_size=None, num_workers=workers, pin_memory=pinned)
    )


def usable_cores() -> int:
    """Cores that this process may use; processes of torchrun on one machine share them equally."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:  # a container may see all cores and be given the time of a few
        quota, period = CPU_QUOTA.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        pass
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def decode(path: Path) -> Tensor:
    """The pixels of a file: uint8 (3, h, w), stored pixel by pixel.

    Greyscale, palettes, CMYK and the like become RGB as Pillow converts them. 16 bits become 8:
    grey is rounded, of colours Pillow takes the upper byte. Transparency, orientation (EXIF) and
    colour profiles are ignored; of several frames it is the first.

    Raises:
        DataError: when the file is missing, damaged, no image or a single pixel, or its numbers
            have no plain meaning as 8 bits.
    """
    from PIL import Image

    try:
        with Image.open(path) as stored:
            image = stored if stored.mode in EIGHT_BITS else _reduced(stored, path)
            image = image if image.mode == "RGB" else image.convert("RGB")
            width, height = image.size
            pixels = bytearray(image.tobytes())
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: the folder changed since its files were counted; restore the "
            "file, or remove the index in results/<study>/data"
        ) from None
    except PermissionError:
        raise DataError(f"{path} may not be read by this user: change its permissions") from None
    # what Pillow raises for broken files depends on where they are broken
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            expect_no_pointer(Path(path), file.read(len(LFS_POINTER)))
        raise DataError(
            f"{path} cannot be decoded ({' '.join(str(error).split())}): it is damaged or no "
            "image; fetch it again"
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} is too large to be decoded ({' '.join(str(error).split())}): shrink it, or "
            "take it out"
        ) from None
    if width == height == 1:
        raise DataError(f"{path} is a single pixel, which shows nothing: take it out")
    return torch.frombuffer(pixels, dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)


def _reduced(stored: Any, path: Path) -> Any:
    """A Pillow image of 16-bit grey in 8 bits.

    Raises DataError for any other mode than ``EIGHT_BITS``: Pillow would clip 32-bit integers and
    floats to 0 .. 255, and nobody knows what is white in them.
    """
    from PIL import Image

    bits = (16,)
    if stored.format == "TIFF":
        # Pillow opens 12 bits as 16 without scaling, and 16 bits with white as zero inverted
        white_is_zero = stored.tag_v2.get(TIFF_PHOTOMETRIC) == 0
        bits = (0,) if white_is_zero else tuple(stored.tag_v2.get(TIFF_BITS, (1,)))
    known = {"PNG", "TIFF", "JPEG2000"} if stored.mode.startswith("I;16") else {"PNG", "PPM"}
    grey = stored.mode.startswith("I;16") or stored.mode == "I"
    if not grey or stored.format not in known or bits != (16,):
        raise DataError(
            f"{path} is a {stored.format} file of mode {stored.mode}, which has no plain meaning "
            "as 8 bits: save it as 8-bit or 16-bit greyscale, or as RGB"
        )
    values = np.asarray(stored).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def random_crop(image: Tensor, numbers: Sequence[float], recipe: ViewRecipe) -> Tensor:
    """A box of random area and ratio, resized: uint8 (3, h, w) -> (3, size, size).

    Args:
        image: the pixels.
        numbers: four in [0, 1): area, ratio, left, top of the first box that is tried.
        recipe: scale, ratio, size and interpolation.

    Source: RandomResizedCrop of torchvision (Szegedy et al. 2015): of up to ten boxes the first
    that fits into the image, else its centre. The later ones follow from the four numbers.
    """
    left, top, width, height = crop_box(numbers, image.shape[2], image.shape[1], recipe)
    box = image[:, top : top + height, left : left + width]
    return resize(box, (recipe.size, recipe.size), recipe.interpolation)


def crop_box(
    numbers: Sequence[float], width: int, height: int, recipe: ViewRecipe
) -> tuple[int, int, int, int]:
    """Left, top, width and height in whole pixels of the box that ``random_crop`` takes."""
    low, high = recipe.crop_scale
    log_low, log_high = (math.log(value) for value in recipe.crop_ratio)
    later = None
    for _ in range(ATTEMPTS):
        area = (low + (high - low) * numbers[0]) * width * height
        ratio = math.exp(log_low + (log_high - log_low) * numbers[1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(numbers[2] * (width - w + 1)), int(numbers[3] * (height - h + 1))
            return left, top, w, h
        later = later or random.Random(repr(numbers))
        numbers = [later.random() for _ in range(4)]
    ratio = min(max(width / height, recipe.crop_ratio[0]), recipe.crop_ratio[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (width - w) // 2, (height - h) // 2, w, h


def plain_crop(image: Tensor, _: Sequence[float], view: PlainView) -> Tensor:
    """Resized by its shorter side, then its centre or the whole: (3, h, w) -> (3, size, size).

    Source: Resize and CenterCrop of torchvision, with its rounding.
    """
    image = resize(image, view.resized(*image.shape[1:]), "bilinear")
    if view.crop:
        return image[(slice(None), *view.centre(*image.shape[1:]))]
    return resize(image, (view.size, view.size), "bilinear")


def resize(image: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    """uint8 (3, h, w) -> (3, *shape), smoothed when it shrinks, as Pillow does."""
    if image.shape[1:] == shape:
        return image
    return F.interpolate(image[None], shape, mode=interpolation, antialias=True)[0]
