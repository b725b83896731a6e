"""SIGReg: embeddings that look normal along random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from e2mc.criteria.base import Terms
from e2mc.criteria.sliced import SlicedCriterion, random_directions
from e2mc.distributed import Group
from e2mc.errors import expect_integer, expect_number


class SIGReg(SlicedCriterion):
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
        super().__init__(directions, group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_number(t_max, "t_max", above=0)
        expect_integer(points, "points", at_least=2)
        self.weight = weight
        t = torch.linspace(0, t_max, points, dtype=torch.float64)
        rule = torch.full_like(t, 2 * t_max / (points - 1))
        rule[[0, -1]] /= 2
        self.register_buffer("t", t, persistent=False)
        self.register_buffer("rule", rule, persistent=False)

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        n, d = sum(sizes), views[0].shape[1]
        directions = random_directions(d, self.directions, self.next_step(views)).to(views[0])
        t, normal = self.t.to(directions), (-self.t.square() / 2).exp()
        statistics = []
        for z in views:
            angles = (z @ directions)[..., None] * t
            sums = torch.stack([angles.cos().sum(dim=0), angles.sin().sum(dim=0)])
            real, imaginary = self.total(sums) / n
            distance = (real - normal.to(t)).square() + imaginary.square()
            statistics.append(n * (distance @ (self.rule * normal).to(t)).mean())
        return {"epps_pulley": (self.weight, torch.stack(statistics).mean())}
