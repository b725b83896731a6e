"""BYOL: bootstrap your own latent (Grill et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from e2mc.distributed import Group
from e2mc.methods.base import (
    Method,
    MethodOutput,
    at_least_float32,
    check_momentum,
    check_widths,
    crossed_similarity,
    encoder_and_predictor,
    expect_two,
    follow,
    frozen_copy,
    mlp,
    momentum_at,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone


def byol_loss(p1: Tensor, p2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    """Squared distance of each normalised prediction to the other view's normalised target.

    ``mean_n (2 - 2 cos(p1_n, t2_n)) + mean_n (2 - 2 cos(p2_n, t1_n))``

    Args:
        p1, p2: ``(N, D)`` predictions from the two views.
        t1, t2: ``(N, D)`` projections of the target network; no gradient reaches them.

    Returns:
        Scalar in [0, 8].

    Source: Grill et al., "Bootstrap Your Own Latent", 2020 (arXiv 2006.07733), equation 2.
    """
    return 4 - 4 * crossed_similarity(p1, p2, t1, t2)


class BYOL(Method):
    """BYOL with a target network that follows the online one, and a predictor.

    Projector and predictor are Linear, BatchNorm, ReLU, Linear. The target network has backbone and
    projector; its weights are an exponential moving average of the online ones after every step,
    with a momentum that moves from ``ema`` to ``ema_last`` over the run by a cosine. The embeddings
    in the output are the online projections. The optimizer groups are "encoder" and "predictor".

    Args:
        backbone: see `Method`.
        hidden_dim: width of the hidden layers of projector and predictor.
        dim: width D of embeddings and predictions.
        ema: momentum of the target network at the start of a run; a continued run starts anew.
        ema_last: momentum at its end; equal to ``ema`` for a constant one.
        objective: "own", or "er" for `er_on_sphere`: predictions reconstruct the other view's
            target, and the entropy is that of the online projections, which the target follows.
        kappa: see `er_on_sphere`.
        group: process group over which the batch is spread; None for the default one.

    Raises:
        ValueError: if a parameter is out of its range.
    """

    def __init__(
        self,
        backbone: Backbone,
        hidden_dim: int = 4096,
        dim: int = 256,
        ema: float = 0.996,
        ema_last: float = 1.0,
        objective: Objective = "own",
        kappa: float = 10.0,
        group: Group = None,
    ) -> None:
        super().__init__(objective, kappa, group)
        check_widths(hidden_dim=hidden_dim, dim=dim)
        check_momentum(ema, ema_last)
        self.backbone = backbone
        self.projector = nn.Sequential(
            *mlp(backbone.feature_dim, hidden_dim), nn.Linear(hidden_dim, dim)
        )
        self.predictor = nn.Sequential(*mlp(dim, hidden_dim), nn.Linear(hidden_dim, dim))
        self.target_backbone = frozen_copy(self.backbone)
        self.target_projector = frozen_copy(self.projector)
        self.ema, self.ema_last = ema, ema_last

    def parameter_groups(self) -> list[dict]:
        """Return the groups "encoder" (online backbone and projector) and "predictor"."""
        return encoder_and_predictor(self, self.predictor)

    def end_step(self, progress: float) -> None:
        momentum = momentum_at(progress, self.ema, self.ema_last)
        follow(self.target_backbone, self.backbone, momentum)
        follow(self.target_projector, self.projector, momentum)

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        z1, z2 = (self.projector(self.backbone(view)) for view in expect_two(views, "BYOL"))
        predictions = (at_least_float32(self.predictor(z)) for z in (z1, z2))
        with torch.no_grad():
            targets = [
                at_least_float32(self.target_projector(self.target_backbone(view)))
                for view in views
            ]
        (p1, p2), (t1, t2), z1, z2 = predictions, targets, *map(at_least_float32, (z1, z2))
        with without_autocast(z1):
            return self.on_sphere(
                (z1, z2),
                [(p1, t2), (p2, t1)],
                own=lambda: single_term("byol", byol_loss(p1, p2, t1, t2)),
            )
