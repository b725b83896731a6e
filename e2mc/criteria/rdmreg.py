"""RDMReg: rectified embeddings that look like a rectified Laplace or normal law."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, get_args

import torch
from torch import Tensor

from e2mc.criteria.base import Terms
from e2mc.criteria.sliced import SlicedCriterion, random_directions, random_uniforms
from e2mc.distributed import Group, exchange_columns, rank, world_size
from e2mc.errors import expect_known, expect_number

Law = Literal["laplace", "normal"]


def location(law: Law, density: float) -> float:
    """mu for which mu + X is positive with probability `density`, X of `law` with variance 1."""
    if law == "normal":
        return NormalDist().inv_cdf(density)
    tail = math.log(2 * min(density, 1 - density)) / math.sqrt(2)
    return tail if density < 0.5 else -tail


def rectified_sample(n: int, d: int, law: Law, density: float, step: Tensor) -> Tensor:
    """Independent draws of max(0, mu + X), the same for the same step on every device and rank.

    Returns:
        (n, d), float64.
    """
    # another stream than that of the directions
    u = random_uniforms(n * d, step, stream=1).view(n, d)
    if law == "normal":
        x = torch.special.ndtri(u)
    else:
        x = (u - 0.5).sign() * -(1 - (2 * u - 1).abs()).log() / math.sqrt(2)
    return (x + location(law, density)).relu()


class RDMReg(SlicedCriterion):
    """Rectified embeddings distributed as independent rectified Laplace or normal variables.

    In every step an (N, D) sample Y of max(0, mu + X) is drawn, with independent X of variance 1.
    Along each of K random unit vectors a, new ones in every step too, the projections of the
    rectified embeddings and those of Y are sorted and compared:

        loss = weight * 1/V sum_v mean_a 1/N sum_i (p_(i) - q_(i))^2,
               p = a . max(0, z_v),  q = a . y

    over V views: a sliced 2-Wasserstein distance between two samples.

    Args:
        weight: >= 0; the authors' examples take 125 beside 25 for the mean squared error between
            views.
        law: of X: "laplace", the generalised Gaussian with p = 1, the authors' default, or
            "normal", with p = 2.
        density: in (0, 1), the share of positive coordinates, which decides mu; 0.5 is mu = 0.
        directions: K, at least 1; the authors take 8192 and find 512 enough.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Buffers (saved with the state dict, and resumed from it):
        step: how many batches there were in training mode; it decides directions and sample.

    Terms:
        wasserstein: mean over the views and directions of the squared distance. It is above 0 also
        where both laws are equal, as two samples differ.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised: all views, local crops included.
        The criterion rectifies what it is given (which leaves rectified embeddings as they are); a
        coordinate that is negative in the whole batch has no gradient.

    Under DDP each rank sorts K/W projections of the joint batch; see `Criterion` for gradients,
    mixed precision and torch.compile.

    Complexity: per view O(N K (D + log N)) over the W ranks, N K + N D memory.

    Reference: Kuang, Dagade, Rudner, Balestriero, LeCun, "Rectified LpJEPA", 2026
    (arXiv 2602.01456). Read were its abstract, the authors' README and the walk-through in their
    repository (github.com/YilunKuang/rectified-lp-jepa, MINIMAL.md), which give the distance, the
    law and its scale (variance 1 before it is rectified). Ours: p is 1 or 2; mu is said by the
    share that is positive; all views of a step share directions and sample, where the authors draw
    anew for each view; the embeddings are rectified here and not by the network.
    """

    def __init__(
        self,
        weight: float = 1.0,
        law: Law = "laplace",
        density: float = 0.5,
        directions: int = 256,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(directions, group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_known(law, get_args(Law), "law")
        expect_number(density, "density", above=0, below=1)
        self.weight = weight
        self.law: Law = law
        self.density = density

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        n, d = sum(sizes), views[0].shape[1]
        step = self.next_step(views)
        directions = random_directions(d, self.directions, step).to(views[0])
        sample = rectified_sample(n, d, self.law, self.density, step).to(views[0])
        own = directions.tensor_split(world_size(self.group), dim=1)[rank(self.group)]
        wanted = (sample @ own).T.sort(dim=1).values
        value = views[0].new_zeros(())
        for z in views:
            columns = exchange_columns(z.relu() @ directions, sizes, self.group)
            value = value + self.total((columns.T.sort(dim=1).values - wanted).square().sum())
        return {"wasserstein": (self.weight, value / (n * self.directions * len(views)))}
