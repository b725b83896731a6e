"""E2MC and ER together: marginal entropies in the unit cube, joint entropy on the sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Terms
from e2mc.criteria.e2mc import E2MC
from e2mc.criteria.er import check_options, entropy
from e2mc.distributed import Group


class E2MCER(E2MC):
    """The loss of `E2MC` plus the entropy term of `ER`.

        loss = E2MC(z_1, ..., z_V) - sphere_weight * 1/V sum_v entropy(z_v / |z_v|)

    Args:
        entropy_weight, covariance_weight, mapping, window, epsilon, batch_size: see `E2MC`.
        sphere_weight: >= 0.
        kappa, estimator, leave_one_out: see `e2mc.criteria.er.entropy`.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        entropy, covariance: see `E2MC`.
        sphere_entropy: mean over the views, in nats.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks.

    Reference: see `E2MC` and `ER`; the combination is ours.
    """

    def __init__(
        self,
        entropy_weight: float = 10.0,
        covariance_weight: float = 1.0,
        sphere_weight: float = 1.0,
        mapping: str = "normal",
        window: int | None = None,
        epsilon: float = 2**-23,
        batch_size: int | None = None,
        kappa: float = 10.0,
        estimator: str = "plug-in",
        leave_one_out: bool = False,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(
            entropy_weight,
            covariance_weight,
            mapping,
            window,
            epsilon,
            batch_size,
            group,
            check_finite=check_finite,
        )
        check_options(kappa, estimator)
        self.sphere_weight = sphere_weight
        self.kappa = kappa
        self.estimator = estimator
        self.leave_one_out = leave_one_out

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        entropies = [
            entropy(
                normalize(z),
                self.kappa,
                self.estimator,
                leave_one_out=self.leave_one_out,
                sizes=sizes,
                group=self.group,
            )
            for z in views
        ]
        return {
            **super().compute(views, sizes),
            "sphere_entropy": (-self.sphere_weight, torch.stack(entropies).mean()),
        }
