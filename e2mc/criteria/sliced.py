"""What criteria along random directions share: reproducible draws, new ones in every step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from e2mc.criteria.base import Criterion
from e2mc.distributed import Group
from e2mc.errors import expect_integer


def random_uniforms(count: int, step: Tensor, stream: int = 0) -> Tensor:
    """Uniform numbers in (0, 1): the same for the same step, on every device and rank.

    A generator of torch would draw other numbers on a GPU than on a CPU and break the graph of
    torch.compile; here they are a hash of (step, position).

    Args:
        count: how many.
        step: int64 scalar, on the device where the numbers are wanted.
        stream: another one gives other numbers for the same step.

    Returns:
        (count,), float64.

    Source: the hash is SplitMix64 (Steele et al., 2014).
    """
    bits = torch.arange(1, count + 1, device=step.device) + step * count + (stream << 48)
    bits = bits * -0x61C8864680B583EB  # 64-bit products wrap around
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    bits = bits ^ _shifted(bits, 31)
    return (_shifted(bits, 11).double() + 0.5) * 2.0**-53


def random_directions(d: int, count: int, step: Tensor) -> Tensor:
    """Unit vectors drawn uniformly: the same for the same step, on every device and rank.

    Uniform numbers become normal ones by the Box-Muller transform.

    Args:
        d: dimension, >= 1.
        count: how many.
        step: int64 scalar, on the device where the directions are wanted.

    Returns:
        (d, count) of unit columns, float64.
    """
    uniform = random_uniforms(2 * d * count, step)
    radius, angle = (-2 * uniform[::2].log()).sqrt(), 2 * math.pi * uniform[1::2]
    normal = (radius * angle.cos()).view(d, count)
    return normal / normal.norm(dim=0)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Logical shift to the right of 64-bit integers."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


class SlicedCriterion(Criterion):
    """A criterion of all views' projections onto K random unit vectors, new ones in every step.

    Buffers (saved with the state dict, and resumed from it):
        step: how many batches there were in training mode; it decides the directions.
    """

    views = "all"

    step: Tensor

    def __init__(self, directions: int, group: Group, check_finite: bool) -> None:
        super().__init__(group, check_finite)
        expect_integer(directions, "directions", at_least=1)
        self.directions = directions
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def next_step(self, views: list[Tensor]) -> Tensor:
        """The step of this batch; in training mode the next batch has the next one."""
        if self.recomputed(views):
            return self.step - 1
        step = self.step
        if self.training:
            self.step = step + 1
        return step
