"""VISReg: scale, shape and centre of the embeddings, each with a term of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from e2mc.criteria.base import Terms
from e2mc.criteria.sliced import SlicedCriterion, random_directions
from e2mc.distributed import Group, exchange_columns
from e2mc.errors import expect_number


class VISReg(SlicedCriterion):
    """Coordinates of mean 0 and standard deviation 1; normal projections once these are taken out.

    Over the N rows of one view, with mean mu and standard deviation s (divisor N) per coordinate,
    and along each of K random unit vectors a, new ones in every step:

        scale  = mean_d (1 - s_d)^2
        center = mean_d mu_d^2
        shape  = mean_a 1/N sum_i (p_(i) - q_i)^2
                 with p = a . (z - mu) / (stopped(s) + epsilon) in ascending order
                 and q_i the quantile of the standard normal law at i / (N + 1)
        loss   = scale_weight * scale + shape_weight * shape + center_weight * center

    each term averaged over the views. The shape is a sliced 2-Wasserstein distance; the gradient
    of `scale` stays as it is where embeddings collapse. No gradient passes through `stopped`: the
    gradient is that of the criterion as published, not of its value, and second derivatives take
    the standard deviation in `shape` for a constant. Invariance, VISReg's other term, is left to
    the base method.

    Args:
        scale_weight: >= 0.
        shape_weight: >= 0.
        center_weight: >= 0.
        directions: K, at least 1; lightly takes 4096.
        epsilon: > 0.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Buffers (saved with the state dict, and resumed from it):
        step: how many batches there were in training mode; it decides the directions.

    Terms:
        scale, shape, center: means over the views.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised: all views, local crops included.

    Under DDP ranks sum the moments, and each sorts K/W projections of the joint batch with the
    same directions everywhere; the paper leaves each rank to its own batch and directions. See
    `Criterion` for mixed precision and torch.compile.

    Complexity: per view O(N K (D + log N)) over the W ranks, N K memory.

    Reference: Wu, Balestriero, Levine, "VISReg", 2026 (arXiv 2606.02572). Read were its abstract,
    the authors' project page (haiyuwu.github.io/visreg: the scale term and the aims) and the
    documentation of lightly's `visreg_center_loss`, `visreg_scale_loss` and `visreg_shape_loss`,
    which name equations 1, 2, 5 and 6 of the paper; the text of the paper was not at hand, nor
    was the authors' code used, whose licence is not free.
    """

    def __init__(
        self,
        scale_weight: float = 1.0,
        shape_weight: float = 1.0,
        center_weight: float = 1.0,
        directions: int = 256,
        epsilon: float = 1e-4,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(directions, group, check_finite)
        expect_number(scale_weight, "scale_weight", at_least=0)
        expect_number(shape_weight, "shape_weight", at_least=0)
        expect_number(center_weight, "center_weight", at_least=0)
        expect_number(epsilon, "epsilon", above=0)
        self.scale_weight = scale_weight
        self.shape_weight = shape_weight
        self.center_weight = center_weight
        self.epsilon = epsilon

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        n, d = sum(sizes), views[0].shape[1]
        directions = random_directions(d, self.directions, self.next_step(views)).to(views[0])
        positions = torch.arange(1, n + 1, device=directions.device, dtype=torch.float64) / (n + 1)
        quantiles = torch.special.ndtri(positions).to(directions)
        scale = shape = center = views[0].new_zeros(())
        for z in views:
            mean = self.total(z.sum(dim=0)) / n
            centred = z - mean
            deviation = _root(self.total(centred.square().sum(dim=0)) / n)
            projections = centred / (deviation.detach() + self.epsilon) @ directions
            columns = exchange_columns(projections, sizes, self.group)
            distances = (columns.T.sort(dim=1).values - quantiles).square()
            scale = scale + (1 - deviation).square().mean()
            shape = shape + self.total(distances.sum()) / (n * self.directions)
            center = center + mean.square().mean()
        return {
            "scale": (self.scale_weight, scale / len(views)),
            "shape": (self.shape_weight, shape / len(views)),
            "center": (self.center_weight, center / len(views)),
        }


def _root(x: Tensor) -> Tensor:
    """Square root whose derivative at 0 is 0."""
    positive = x > 0
    return (x + ~positive).sqrt() * positive
