"""VCReg: variance and covariance regularisation, on the hypersphere or on the projector output."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, exchange_columns
from e2mc.errors import expect_known, expect_number

Space = Literal["hypersphere", "projector"]


class VCReg(Criterion):
    """A floor under each coordinate's standard deviation, low covariance between coordinates.

    Over V views x, l2-normalised if `space` is "hypersphere", with target t = 1/sqrt(D) there and
    t = 1 in "projector" space:

        loss = variance_weight * 1/V sum_v mean_d max(0, t - sqrt(var(x_vd) + 1e-4))
             + covariance_weight * sum_v cov(x_v)

    with the unbiased variance and cov as in `e2mc.entropy.offdiagonal_covariance`.

    Args:
        variance_weight: >= 0.
        covariance_weight: >= 0.
        space: "hypersphere" or "projector".
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        variance: mean hinge over views and coordinates.
        covariance: summed over the views.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks.

    Under DDP each rank takes D/W columns of the joint batch; see `Criterion` for gradients, mixed
    precision and torch.compile.

    Complexity: per view O(N D min(N, D)) over the W ranks, no D x D matrix where N < D.

    Reference: Bardes, Ponce, LeCun, "VICReg", 2022 (arXiv 2105.04906), equations 1-4, as added to
    SwAV in arXiv 2411.15931.
    """

    def __init__(
        self,
        variance_weight: float = 1.0,
        covariance_weight: float = 0.01,
        space: Space = "hypersphere",
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(variance_weight, "variance_weight", at_least=0)
        expect_number(covariance_weight, "covariance_weight", at_least=0)
        expect_known(space, get_args(Space), "space")
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.space = space

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        d = views[0].shape[1]
        target = 1.0
        if self.space == "hypersphere":
            views, target = [normalize(z) for z in views], d**-0.5
        variance = covariance = views[0].new_zeros(())
        for z in views:
            columns = exchange_columns(z, sizes, self.group)
            hinges = torch.relu(target - torch.sqrt(columns.var(dim=0) + 1e-4))
            variance = variance + self.total(hinges.sum()) / (d * len(views))
            covariance = covariance + self.covariance(z, columns, sizes)
        return {
            "variance": (self.variance_weight, variance),
            "covariance": (self.covariance_weight, covariance),
        }
