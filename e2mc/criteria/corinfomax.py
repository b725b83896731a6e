from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from e2mc.criteria.base import Criterion, CriterionOutput
from e2mc.distributed import Group, gather


class CorInfoMax(Criterion):
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
        self.weight = weight
        self.decay = decay
        self.epsilon = epsilon
        self.initial_variance = initial_variance
        # Their shape is known at the first batch or from a saved state.
        self.register_buffer("means", torch.empty(0, 0, dtype=torch.float64))
        self.register_buffer("covariances", torch.empty(0, 0, 0, dtype=torch.float64))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("means", "covariances"):
            if prefix + name in state:
                setattr(self, name, getattr(self, name).new_empty(state[prefix + name].shape))
        super()._load_from_state_dict(state, prefix, *args)

    def compute(self, views: list[Tensor]) -> CriterionOutput:
        z = torch.stack([gather(view, self.group) for view in views]).double()
        v, n, d = z.shape
        identity = torch.eye(d, dtype=z.dtype, device=z.device)
        if self.means.numel() == 0:
            self.means = z.new_zeros(v, d)
            self.covariances = (self.initial_variance * identity).repeat(v, 1, 1)
        means = self.decay * self.means + (1 - self.decay) * z.mean(dim=1)
        centred = z - means[:, None]
        covariances = self.decay * self.covariances + (1 - self.decay) / n * (
            centred.mT @ centred
        )
        if self.training:
            self.means, self.covariances = means.detach(), covariances.detach()
        value = torch.logdet(covariances + self.epsilon * identity).sum() / d
        return CriterionOutput(
            (-self.weight * value).to(views[0].dtype), {"log_determinant": value.detach()}
        )
