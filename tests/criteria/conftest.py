"""A criterion in one step of SwAV, as in the official code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria import Criterion, CriterionOutput
from e2mc.methods.swav import sinkhorn, swapped_prediction_loss


@pytest.fixture
def same_swav_step(same_value, same_gradient) -> Callable[..., CriterionOutput]:
    """Compare SwAV's loss plus a criterion's, and the gradient, with those of a golden file."""

    def check(g: dict[str, Tensor], criterion: Criterion) -> CriterionOutput:
        z = g["z"].double().requires_grad_()
        scores = normalize(z) @ normalize(g["W_prototypes_unnormalised"].double()).T
        scores = scores.unflatten(0, (8, -1))
        loss = swapped_prediction_loss(scores, torch.stack([sinkhorn(s) for s in scores[:2]]))
        views = z.chunk(8)
        out = criterion(*(views[:2] if criterion.views == "global" else views))
        (loss + out.loss).backward()
        same_value((loss + out.loss).detach(), g["f64_loss"])
        same_gradient(z.grad, g["f64_grad_z"])
        return out

    return check
