"""SIGReg: embeddings that look normal along random directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group
from e2mc.errors import expect_integer, expect_number


def random_directions(d: int, count: int, step: Tensor) -> Tensor:
    """Unit vectors drawn uniformly: the same for the same step, on every device and rank.

    A generator of torch would draw other numbers on a GPU than on a CPU and break the graph of
    torch.compile; here a hash of (step, position) gives uniform numbers, and the Box-Muller
    transform normal ones.

    Args:
        d: dimension, >= 1.
        count: how many.
        step: int64 scalar, on the device where the directions are wanted.

    Returns:
        (d, count) of unit columns, float64.

    Source: the hash is SplitMix64 (Steele et al., 2014).
    """
    size = 2 * d * count
    bits = torch.arange(1, size + 1, device=step.device) + step * size
    bits = bits * -0x61C8864680B583EB  # 64-bit products wrap around
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    bits = bits ^ _shifted(bits, 31)
    uniform = (_shifted(bits, 11).double() + 0.5) * 2.0**-53
    radius, angle = (-2 * uniform[::2].log()).sqrt(), 2 * math.pi * uniform[1::2]
    normal = (radius * angle.cos()).view(d, count)
    return normal / normal.norm(dim=0)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Logical shift to the right of 64-bit integers."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


class SIGReg(Criterion):
    """Embeddings whose projections onto random directions are standard normal.

    Along each of K random unit vectors a, new ones in every step, the Epps-Pulley statistic
    compares the characteristic function of the N projections with that of the normal law:

        T(a) = N int | 1/N sum_n exp(i t a . z_n) - exp(-t^2 / 2) |^2 exp(-t^2 / 2) dt
        loss = weight * 1/V sum_v mean_a T(a)

    over V views, with the integral from -t_max to t_max by the trapezoidal rule.

    Args:
        weight: >= 0; LeJEPA takes 0.05 beside an invariance term of weight 0.95.
        directions: K, at least 1.
        t_max: > 0.
        points: >= 2, of the trapezoidal rule on [0, t_max].
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Buffers (saved with the state dict, and resumed from it):
        step: how many batches there were in training mode; it decides the directions.

    Terms:
        epps_pulley: mean over the views and directions. For standard normal embeddings its
        expectation does not depend on N (about 0.39); it is at most 2.6 N.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised: all views, local crops included.

    Under DDP ranks sum K x points cosines and sines per view; see `Criterion` for gradients, mixed
    precision and torch.compile.

    Complexity: per view O(N_r K (D + points)) time, N_r K points memory.

    Reference: Balestriero, LeCun, "LeJEPA", 2025 (arXiv 2511.08544), official code
    github.com/rbalestr-lab/lejepa; the statistic is that of Epps, Pulley, 1983.
    """

    views = "all"

    step: Tensor
    t: Tensor
    rule: Tensor

    def __init__(
        self,
        weight: float = 0.05,
        directions: int = 256,
        t_max: float = 3.0,
        points: int = 17,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_integer(directions, "directions", at_least=1)
        expect_number(t_max, "t_max", above=0)
        expect_integer(points, "points", at_least=2)
        self.weight = weight
        self.directions = directions
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        t = torch.linspace(0, t_max, points, dtype=torch.float64)
        rule = torch.full_like(t, 2 * t_max / (points - 1))
        rule[[0, -1]] /= 2
        self.register_buffer("t", t, persistent=False)
        self.register_buffer("rule", rule, persistent=False)

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        n, d = sum(sizes), views[0].shape[1]
        again = self.recomputed(views)
        step = self.step - 1 if again else self.step
        directions = random_directions(d, self.directions, step).to(views[0])
        t, normal = self.t.to(directions), (-self.t.square() / 2).exp()
        statistics = []
        for z in views:
            angles = (z @ directions)[..., None] * t
            sums = torch.stack([angles.cos().sum(dim=0), angles.sin().sum(dim=0)])
            real, imaginary = self.total(sums) / n
            distance = (real - normal.to(t)).square() + imaginary.square()
            statistics.append(n * (distance @ (self.rule * normal).to(t)).mean())
        if self.training and not again:
            self.step = self.step + 1
        return {"epps_pulley": (self.weight, torch.stack(statistics).mean())}
