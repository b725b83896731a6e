from __future__ import annotations

from torch import Tensor

from e2mc.criteria.base import Criterion, CriterionOutput
from e2mc.distributed import Group, gather
from e2mc.entropy import offdiagonal_covariance


class VICRegCovariance(Criterion):
    def __init__(
        self,
        weight: float = 1.0,
        batch_size: int | None = None,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        self.weight = weight
        self.batch_size = batch_size

    def compute(self, views: list[Tensor]) -> CriterionOutput:
        divisor = None if self.batch_size is None else self.batch_size - 1
        value = sum(offdiagonal_covariance(gather(z, self.group), divisor=divisor) for z in views)
        return CriterionOutput(self.weight * value, {"covariance": value.detach()})
