"""VICReg: variance-invariance-covariance regularisation (Bardes, Ponce, LeCun, 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2mc.distributed import Group, gather
from e2mc.entropy import offdiagonal_covariance
from e2mc.errors import expect_integer, expect_number
from e2mc.methods.base import (
    Method,
    MethodOutput,
    at_least_float32,
    check_list_of_widths,
    expect_two,
    mlp,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone


def vicreg_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    batch_size: int | None = None,
    group: Group = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """VICReg loss of two views.

    ``w_i s(z1, z2) + w_v [v(z1) + v(z2)] / 2 + w_c [c(z1) + c(z2)]`` with the mean squared error s,
    the hinge ``v(z) = mean_d max(0, 1 - sqrt(var(z_d) + 1e-4))`` on the unbiased variance, and
    ``c(z) = 1/D sum_{i != j} C_ij^2`` with the covariance matrix C. The error is that of the local
    rows; variance and covariance are those of the batch gathered over the group.

    Args:
        z1, z2: ``(N, D)`` embeddings of the two views, N >= 2 after gathering.
        invariance_weight, variance_weight, covariance_weight: w_i, w_v, w_c, not negative.
        batch_size: nominal size of the gathered batch. If given, C is divided by
            ``batch_size - 1`` also when the batch at hand is smaller (an epoch's last one), as in
            the official code; otherwise by one less than the gathered size.
        group: process group over which the batch is spread; None for the default one.

    Returns:
        The loss, and the detached terms "vicreg_invariance", "vicreg_variance" and
        "vicreg_covariance" before weighting.

    Source: Bardes, Ponce, LeCun, "VICReg", 2022 (arXiv 2105.04906), equations 1-6 (hinge target 1,
        and the halved variance term of the official code).
    """
    invariance = F.mse_loss(z1, z2)
    gathered = gather(z1, group), gather(z2, group)
    hinges = [F.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() for z in gathered]
    variance = torch.stack(hinges).mean()
    divisor = None if batch_size is None else batch_size - 1
    covariance = torch.stack([offdiagonal_covariance(z, divisor=divisor) for z in gathered]).sum()
    loss = (
        invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
    )
    terms = {
        "vicreg_invariance": invariance.detach(),
        "vicreg_variance": variance.detach(),
        "vicreg_covariance": covariance.detach(),
    }
    return loss, terms


class VICReg(Method):
    """VICReg with the official expander: Linear, BatchNorm, ReLU per hidden layer, then Linear.

    Each view goes through backbone and expander by itself, so that the statistics of BatchNorm are
    those of one view, as in the official code.

    Args:
        backbone: see `Method`.
        expander: widths of the expander's layers, the last one being D.
        invariance_weight, variance_weight, covariance_weight, batch_size, group: see `vicreg_loss`.
        objective: "own", or "er" for `er_on_sphere` of the two views' embeddings.
        kappa: see `er_on_sphere`.

    Raises:
        ValueError: if a parameter is out of its range.
    """

    def __init__(
        self,
        backbone: Backbone,
        expander: tuple[int, ...] = (8192, 8192, 8192),
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        batch_size: int | None = None,
        group: Group = None,
        objective: Objective = "own",
        kappa: float = 10.0,
    ) -> None:
        super().__init__(objective, kappa, group)
        check_list_of_widths(expander, "expander")
        expect_number(invariance_weight, "invariance_weight", at_least=0)
        expect_number(variance_weight, "variance_weight", at_least=0)
        expect_number(covariance_weight, "covariance_weight", at_least=0)
        if batch_size is not None:
            expect_integer(batch_size, "batch_size", at_least=2)
        *hidden, dim = (backbone.feature_dim, *expander)
        self.backbone = backbone
        self.projector = nn.Sequential(*mlp(*hidden), nn.Linear(hidden[-1], dim, bias=False))
        self.loss_options = {
            "invariance_weight": invariance_weight,
            "variance_weight": variance_weight,
            "covariance_weight": covariance_weight,
            "batch_size": batch_size,
            "group": group,
        }

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        z1, z2 = (
            at_least_float32(self.projector(self.backbone(view)))
            for view in expect_two(views, "VICReg")
        )
        with without_autocast(z1):
            return self.on_sphere(
                (z1, z2), [(z1, z2)], own=lambda: vicreg_loss(z1, z2, **self.loss_options)
            )
