"""Which images every step of a run takes, and the seeds of its random draws."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from e2mc.data.source import Batch
from e2mc.distributed import rank, world_size
from e2mc.errors import InputError
from e2mc.state import fingerprint
from e2mc.training.spec import TrainingError, TrainingSpec


class BatchOrder:
    """The batches of a run: functions of (seed, epoch, step), so nothing of them is ever saved.

    Every image is taken once an epoch, in a random order. A rank works through its part of a batch
    in ``micro_batches`` equal parts.

    Args:
        spec: the run; its seed, its length and how its batches are split.
        images: how many there are.

    Attributes:
        steps_per_epoch, total_steps: length of the run.
        epochs: passes that it begins; the last one may end early.
        part: images that a process works through at a time.

    Raises:
        TrainingError: when the images do not fill one batch, or the processes cannot share a batch
            equally (the mean over processes would be another loss).
        InputError: see ``expect_warmup_ends``.
    """

    def __init__(self, spec: TrainingSpec, images: int) -> None:
        self.spec, self.images = spec, images
        self.steps_per_epoch = steps_per_epoch(spec, images)
        if self.steps_per_epoch < 1:
            raise TrainingError(
                f"{images} images do not fill one batch of {spec.batch_size}: lower batch_size or "
                "use more images"
            )
        expect_warmup_ends(spec, images)
        self.total_steps = spec.steps or (spec.epochs or 0) * self.steps_per_epoch
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self._parts = world_size() * spec.micro_batches
        if spec.batch_size % self._parts:
            raise TrainingError(
                f"a batch of {spec.batch_size} images cannot be split equally over "
                f"{world_size()} processes with {spec.micro_batches} micro-batches each: use "
                f"a batch_size that is a multiple of {self._parts}"
            )
        self.part = spec.batch_size // self._parts

    def seed(self, *position: int) -> int:
        """A seed of its own for every position in the run."""
        return int(fingerprint({"seed": self.spec.seed, "position": position}), 16)

    def from_step(self, first: int) -> Iterator[Batch]:
        """This rank's micro-batches from a step to the last one."""
        spec = self.spec
        for step in range(first, self.total_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if step == first or position == 0:
                order = torch.randperm(
                    self.images, generator=torch.Generator().manual_seed(self.seed(epoch, 0))
                )
            indices = order[position * spec.batch_size :][: spec.batch_size]
            missing = _missing(len(indices), self._parts, spec)
            indices = torch.cat([indices, order[:missing]])
            size = len(indices) // self._parts
            for part in range(self._parts)[rank() * spec.micro_batches :][: spec.micro_batches]:
                yield Batch(
                    indices,
                    self.seed(epoch, 1 + position),
                    slice(part * size, (part + 1) * size),
                    spec.augmentation_streams,
                )

    def all_images(self, epoch: int) -> Iterator[Batch]:
        """Every image once, this rank's share of it, in parts no larger than a micro-batch."""
        count = -(-self.images * self.spec.micro_batches // self.spec.batch_size)
        for number, indices in enumerate(torch.arange(self.images).tensor_split(count)):
            share = [len(indices) * r // world_size() for r in (rank(), rank() + 1)]
            yield Batch(indices, self.seed(epoch, -1, number), slice(*share))


def steps_per_epoch(spec: TrainingSpec, images: int) -> int:
    """How many batches a pass over the images has."""
    count = images / spec.batch_size
    return math.floor(count) if spec.drop_last else math.ceil(count)


def expect_warmup_ends(spec: TrainingSpec, images: int) -> None:
    """Raises InputError for a run of some steps whose backbone would rest in all of them."""
    warmup = spec.head_warmup_epochs * steps_per_epoch(spec, images)
    if spec.steps is not None and spec.steps <= warmup:
        raise InputError(
            f"head_warmup_epochs must leave some of the {spec.steps} steps to the backbone, found "
            f"{spec.head_warmup_epochs}, which take {warmup} steps"
        )


def smallest_part(spec: TrainingSpec, images: int) -> int:
    """How many images a criterion sees at once in the smallest part of any batch of an epoch.

    Of one process; on several the parts of an epoch's last batch are as large or larger.
    """
    smallest = spec.batch_size
    if not spec.drop_last:
        last = images % spec.batch_size or spec.batch_size
        smallest = last + _missing(last, spec.micro_batches, spec)
    return smallest // spec.micro_batches


def _missing(images: int, parts: int, spec: TrainingSpec) -> int:
    """How many of an epoch's first images its last batch is given, as by DistributedSampler.

    Its parts, and those whose augmentations are drawn alike, are equal then.
    """
    return -images % math.lcm(parts, spec.augmentation_streams)
