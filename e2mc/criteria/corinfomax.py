"""CorInfoMax: log-determinant of a running covariance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, gather
from e2mc.errors import InputError, expect_number


class CorInfoMax(Criterion):
    """Large log-determinant of each view's running covariance.

    Every call moves the running mean and covariance of each view v, in float64,

        mu_v <- decay mu_v + (1 - decay) mean(z_v)
        R_v  <- decay R_v  + (1 - decay) (z_v - mu_v)^T (z_v - mu_v) / N     with the new mu_v
        loss = -weight * 1/D sum_v log det(R_v + epsilon I)

    from mu = 0 and R = initial_variance I; gradients reach the current batch alone. In eval mode
    the loss is computed but nothing is remembered. The number of views and D are fixed by the first
    batch. MSE between views, CorInfoMax's other term, is left to the base method.

    Args:
        weight: >= 0.
        decay: in [0, 1), weight of the past.
        epsilon: > 0.
        initial_variance: > 0.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Buffers (saved with the state dict, and resumed from it):
        means: (V, D) running means.
        covariances: (V, D, D) running covariances.

    Terms:
        log_determinant: summed over the views, over D.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each. The authors normalise rows for ImageNet-1k; do so
        before the call if wanted.

    Under DDP each rank gathers the embeddings and repeats the work, so that the buffers agree; see
    `Criterion` for gradients, mixed precision and torch.compile.

    Complexity: per view O(N D^2 + D^3) time, D^2 memory.

    Reference: Ozsoy et al., 2022 (arXiv 2209.07999), official class CovarianceLoss.
    """

    means: Tensor
    covariances: Tensor

    def __init__(
        self,
        weight: float = 1.0,
        decay: float = 0.01,
        epsilon: float = 1e-6,
        initial_variance: float = 1.0,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_number(decay, "decay", at_least=0, below=1)
        expect_number(epsilon, "epsilon", above=0)
        expect_number(initial_variance, "initial_variance", above=0)
        self.weight = weight
        self.decay = decay
        self.epsilon = epsilon
        self.initial_variance = initial_variance
        # Empty until the first batch or a saved state tells their shape.
        self.register_buffer("means", torch.empty(0, 0, dtype=torch.float64))
        self.register_buffer("covariances", torch.empty(0, 0, 0, dtype=torch.float64))

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        z = torch.stack([gather(view, self.group, sizes) for view in views]).double()
        v, n, d = z.shape
        identity = torch.eye(d, dtype=z.dtype, device=z.device)
        means, covariances = self.means, self.covariances
        if means.numel() == 0:
            means = torch.zeros(v, d, dtype=z.dtype, device=z.device)
            covariances = (self.initial_variance * identity).repeat(v, 1, 1)
        if means.shape != (v, d):
            raise InputError(
                f"CorInfoMax has followed {tuple(means.shape)} (views, D) so far, found "
                f"{(v, d)}; use one criterion per embedding."
            )
        # What has come already stays as it is when the same batch is seen again for its gradient.
        again = self.recomputed(views)
        move = (1 - self.decay) * z.mean(dim=1)
        means = means + (move - move.detach()) if again else self.decay * means + move
        centred = z - means[:, None]
        move = (1 - self.decay) / n * centred.mT @ centred
        covariances = (
            covariances + (move - move.detach()) if again else self.decay * covariances + move
        )
        if self.training and not again:
            self.means, self.covariances = self.remembered(means), self.remembered(covariances)
        value = torch.logdet(covariances + self.epsilon * identity).sum() / d
        return {"log_determinant": (-self.weight, value.to(views[0].dtype))}

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("means", "covariances"):
            if prefix + name in state:
                setattr(self, name, getattr(self, name).new_empty(state[prefix + name].shape))
        super()._load_from_state_dict(state, prefix, *args)
