"""VICReg's covariance term."""

from __future__ import annotations

from torch import Tensor

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, exchange_columns
from e2mc.errors import expect_integer, expect_number


class VICRegCovariance(Criterion):
    """Low covariance between embedding coordinates.

        loss = weight * sum_v cov(z_v)

    over the views, with cov as in `e2mc.entropy.offdiagonal_covariance`.

    Args:
        weight: >= 0.
        batch_size: covariances are divided by batch_size - 1; None means the size N of the batch
            at hand. The official code uses the nominal size, also for a smaller last batch.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        covariance: summed over the views.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks.

    Under DDP each rank takes D/W columns, or its own rows where N >= D; see `Criterion` for
    gradients, mixed precision and torch.compile.

    Complexity: per view O(N D min(N, D)) over the W ranks, no D x D matrix where N < D.

    Reference: Bardes, Ponce, LeCun, "VICReg", 2022 (arXiv 2105.04906), equations 3 and 4.
    """

    def __init__(
        self,
        weight: float = 1.0,
        batch_size: int | None = None,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        if batch_size is not None:
            expect_integer(batch_size, "batch_size", at_least=2)
        self.weight = weight
        self.batch_size = batch_size

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        value = views[0].new_zeros(())
        for z in views:
            columns = exchange_columns(z, sizes, self.group)
            value = value + self.covariance(z, columns, sizes, batch_size=self.batch_size)
        return {"covariance": (self.weight, value)}
