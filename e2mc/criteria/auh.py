from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, CriterionOutput
from e2mc.distributed import Group, gather


def uniformity(x: Tensor, t: float) -> Tensor:
    n = x.shape[0]
    squares = x.square().sum(dim=1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    self_pairs = torch.eye(n, dtype=torch.bool, device=x.device)
    exponents = (-t * distances).masked_fill(self_pairs, -math.inf)
    return exponents.flatten().logsumexp(0) - math.log(n * (n - 1))


class AUH(Criterion):
    def __init__(
        self,
        weight: float = 1.0,
        t: float = 3.0,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        self.weight = weight
        self.t = t

    def compute(self, views: list[Tensor]) -> CriterionOutput:
        value = sum(
            uniformity(gather(normalize(z), self.group), self.t) for z in views
        ) / len(views)
        return CriterionOutput(self.weight * value, {"uniformity": value.detach()})
