from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, CriterionOutput
from e2mc.distributed import Group, gather


class MMCR(Criterion):
    views = "all"

    def __init__(
        self, weight: float = 1.0, group: Group = None, *, check_finite: bool = True
    ) -> None:
        super().__init__(group, check_finite)
        self.weight = weight

    def compute(self, views: list[Tensor]) -> CriterionOutput:
        centroids = sum(normalize(z) for z in views) / len(views)
        norm = torch.linalg.matrix_norm(gather(centroids, self.group), ord="nuc")
        return CriterionOutput(-self.weight * norm, {"nuclear_norm": norm.detach()})
