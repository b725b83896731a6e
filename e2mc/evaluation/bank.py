"""A bank of views: features of a few random views per image, computed once.

A frozen backbone need not see a hundred fresh views of a million images: head epochs go through the
views of a bank in turn. It is a file beside the results, as large as it has to be.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from e2mc.data.source import Batch, LabelledSource
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.errors import MachineError
from e2mc.evaluation.epochs import EpochState, interruption_point
from e2mc.evaluation.features import frozen, pooled_features, shuffled
from e2mc.models.backbone import Backbone
from e2mc.progress import Progress
from e2mc.state import fingerprint

FORWARD = 256  # views per forward pass
WRITTEN = 2**25  # numbers that are written together: 64 MB
TYPE = torch.bfloat16


def bank_bytes(views: int, images: int, dim: int) -> int:
    """Size of a bank on disk."""
    return views * images * dim * TYPE.itemsize


def views_bank(
    backbone: Backbone,
    images: LabelledSource,
    indices: Tensor,
    *,
    views: int,
    recipe: ViewRecipe,
    normalisation: Normalisation,
    device: str | torch.device = "cpu",
    spatial: bool = False,
    path: Path | None = None,
    state: EpochState | None = None,
    what: str = "bank of views",
) -> Tensor:
    """Features of random views of some images; every image is decoded once for all of its views.

    Args:
        backbone: see ``extract_features``; it is used in evaluation mode.
        images: of which those at ``indices`` (int64, M of them) are taken, in that order.
        views: how many random views of each.
        recipe: of the views; its ``count`` must be 1.
        normalisation: mean and standard deviation per channel.
        device: where the backbone runs.
        spatial: see ``extract_features``.
        path: the file that holds the features; None: memory does.
        state: where it is kept how far the file is; a later call goes on from it.
        what: name in the progress display.

    Returns:
        bfloat16 (views, M, D) on the CPU, mapped from ``path`` where that is given. The views
        follow from the place of an image in ``indices``, and from nothing else.

    Raises:
        MachineError: when the disk has no room for the file.
        Interrupted: when a stop was asked for.
    """
    dim = backbone.feature_dim * (4 if spatial else 1)
    shape = (views, len(indices), dim)
    found = None if state is None or path is None or not path.exists() else state.load()
    done = 0 if found is None else found["images"]
    bank, flush = _open(path, shape, fresh=done == 0, what=what)
    rows = max(1, FORWARD // views)
    first = -(-done // rows)  # all but the last batch are whole
    batches = [
        Batch(part, int(fingerprint({"bank": number}), 16))
        for number, part in enumerate(indices.split(rows))
    ]
    progress = Progress(what, len(batches), done=first, unit="features", per_step=rows * views)
    made: list[Tensor] = []

    def write() -> None:
        nonlocal done
        if made:
            values = torch.cat(made, dim=1).cpu()
            bank[:, done : done + values.shape[1]] = values
            done += values.shape[1]
            made.clear()
            flush()
            if state is not None:
                state.save({"images": done})

    shown = images.views(batches[first:], (replace(recipe, count=views),), normalisation, device)
    with frozen(backbone, device):
        for of_views in shown:
            interruption_point(what)
            features = pooled_features(backbone, torch.cat(of_views), spatial)
            made.append(features.to(TYPE).unflatten(0, (views, -1)))
            progress.step()
            if len(made) * rows * views * dim >= WRITTEN:
                write()
        write()
    return bank


def _open(
    path: Path | None, shape: tuple[int, int, int], *, fresh: bool, what: str
) -> tuple[Tensor, Callable[[], None]]:
    """The tensor of a file, new or as it is, and what brings to disk what was written into it."""
    if path is None:
        return torch.empty(shape, dtype=TYPE), lambda: None
    size = bank_bytes(*shape)
    if fresh:
        print(f"{what}: {size / 1e9:.1f} GB in {path}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        _expect_room(path, size)
        with path.open("wb") as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # a full disk would otherwise end the process
                os.posix_fallocate(file.fileno(), 0, size)
    mapped = np.memmap(path, dtype=np.int16, mode="r+", shape=shape)
    return torch.from_numpy(mapped).view(TYPE), mapped.flush


def _expect_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise MachineError(
            f"a bank of views needs {size / 1e9:.1f} GB in {path.parent}, which has "
            f"{free / 1e9:.1f}: free some space, lower views_bank, or set it to null"
        )


class BankFeatures:
    """A ``FeatureStream`` of a bank: epoch e passes through view e modulo their number.

    Args:
        bank: bfloat16 (V, M, D), from ``views_bank``.
        indices: int64 (M,), which image each of its rows is.
        device: where the features are wanted. An epoch's view is taken there as a whole if it fits.
        spatial: whether the features are pooled to 2 x 2 places.
        seed: of the order; epoch e has that of ``CachedFeatures``.
    """

    def __init__(
        self,
        bank: Tensor,
        indices: Tensor,
        *,
        device: str | torch.device = "cpu",
        spatial: bool = False,
        seed: int = 0,
    ) -> None:
        self.bank, self.device, self.seed = bank, torch.device(device), seed
        self.dim, self.positions = bank.shape[2], 4 if spatial else 1
        self._row = torch.full((int(indices.max()) + 1,), -1)
        self._row[indices] = torch.arange(len(indices))

    def epoch(self, epoch: int, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        view = self._on_device(self.bank[epoch % len(self.bank)])
        for piece in shuffled(indices.cpu(), self.seed, epoch).split(8192):
            rows = self._row[piece].to(view.device)
            yield view[rows].to(self.device).float(), piece

    def _on_device(self, view: Tensor) -> Tensor:
        """Memory-mapped rows are a disk away, and an epoch wants all of them in any order."""
        try:
            return view.to(self.device)
        except torch.OutOfMemoryError:
            return view
