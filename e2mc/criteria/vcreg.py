from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, CriterionOutput
from e2mc.distributed import Group, gather
from e2mc.entropy import offdiagonal_covariance


class VCReg(Criterion):
    def __init__(
        self,
        variance_weight: float = 1.0,
        covariance_weight: float = 0.01,
        space: str = "hypersphere",
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.space = space

    def compute(self, views: list[Tensor]) -> CriterionOutput:
        if self.space == "hypersphere":
            views, target = [normalize(z) for z in views], views[0].shape[1] ** -0.5
        else:
            target = 1.0
        views = [gather(z, self.group) for z in views]
        variance = sum(
            torch.relu(target - torch.sqrt(z.var(dim=0) + 1e-4)).mean() for z in views
        ) / len(views)
        covariance = sum(offdiagonal_covariance(z) for z in views)
        loss = self.variance_weight * variance + self.covariance_weight * covariance
        return CriterionOutput(
            loss, {"variance": variance.detach(), "covariance": covariance.detach()}
        )
