"""Where training images come from: memory or files, behind one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from e2mc.data.views import Draws, Normalisation, PlainView, ViewRecipe
from e2mc.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Which images a step shows, how their views are drawn, and which of them are wanted here.

    Every random number is a function of the seed and of an image's place in the batch, so the views
    do not depend on how many processes share the batch.

    Attributes:
        indices: int64 (B,), the images of the whole batch.
        seed: of every draw.
        part: the rows of the batch that this process is given.
        streams: equal parts of the batch that are drawn alike; B must be a multiple of it. 1 draws
            every image apart. The official code of E2MC draws alike on each of its GPUs.
    """

    indices: Tensor
    seed: int
    part: slice = field(default_factory=lambda: slice(None))
    streams: int = 1

    @property
    def local_indices(self) -> Tensor:
        """The images of this process's part."""
        return self.indices[self.part]

    def draws(self, recipes: Sequence[ViewRecipe], channels: int) -> list[Draws]:
        """The draws of this process's part, one for each view: ``count`` of each recipe in turn."""
        count = len(self.indices)
        if count % self.streams:
            raise InputError(
                f"{count} images cannot be split into {self.streams} equal parts that share their "
                f"augmentations: use a batch_size that is a multiple of {self.streams}"
            )
        generator = torch.Generator().manual_seed(self.seed)

        def mine(drawn: Tensor) -> Tensor:
            return torch.cat([drawn] * self.streams)[self.part]

        return [
            Draws.of(recipe, count // self.streams, channels, generator).map(mine)
            for recipe in recipe_of_each_view(recipes)
        ]


def recipe_of_each_view(recipes: Sequence[ViewRecipe]) -> list[ViewRecipe]:
    """Every recipe as often as its ``count``, in order."""
    return [recipe for recipe in recipes for _ in range(recipe.count)]


def check_labels(labels: Tensor, images: int, classes: Sequence[str]) -> None:
    """Raises ValueError unless there is a label per image, each the number of a class."""
    if len(labels) != images:
        raise InputError(f"{images} images but {len(labels)} labels")
    if labels.ndim == 1 and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(classes):
            raise InputError(
                f"labels run from {low} to {high}, but there are {len(classes)} classes: expected "
                f"0 to {len(classes) - 1}"
            )


class ImageSource(Protocol):
    """Training images of which views can be had."""

    @property
    def channels(self) -> int: ...

    def __len__(self) -> int: ...

    def views(
        self,
        batches: Iterable[Batch],
        recipes: Sequence[ViewRecipe],
        normalisation: Normalisation,
        device: str | torch.device,
    ) -> Iterator[list[Tensor]]:
        """For each batch its views in the order of the recipes.

        Each view is a normalised float (n, C, size, size) on the device, n the images in the
        batch's part. A source may work ahead of what is asked for.
        """
        ...


class LabelledSource(ImageSource, Protocol):
    """Images with labels, for evaluation.

    ``labels`` are int64 (N,) class numbers, or (N, K) with a 1 for every class in the image;
    ``classes`` are the K names.
    """

    @property
    def labels(self) -> Tensor: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def plain_views(
        self,
        view: PlainView,
        normalisation: Normalisation,
        device: str | torch.device,
        batch_size: int,
    ) -> Iterator[Tensor]:
        """Every image in order, without anything random: batches of normalised floats.

        Each is (n, C, size, size) on the device, n the batch size but for the last one.
        """
        ...

    def subset(self, indices: Tensor) -> Self:
        """The images at ``indices`` (int64), in that order."""
        ...

    def content(self) -> dict[str, Any]:
        """Plain values and tensors that ``Splits`` saves."""
        ...
