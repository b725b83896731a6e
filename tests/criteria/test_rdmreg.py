"""RDMReg against optimal transport by assignment; its sample against scipy's laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from e2mc.criteria import RDMReg
from e2mc.criteria.rdmreg import location, rectified_sample
from e2mc.criteria.sliced import random_directions

STEP = torch.zeros((), dtype=torch.long)
LAWS = {"laplace": stats.laplace(scale=0.5**0.5), "normal": stats.norm()}
every_law = pytest.mark.parametrize("law", LAWS)


def sample(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_law
@pytest.mark.parametrize("density", [0.5, 0.2, 0.9])
def test_loss_is_the_cost_of_the_best_assignment(law, density):
    """One-dimensional transport by sorting against the Hungarian method, in numpy."""
    views = [sample(9, 4, seed) for seed in range(2)]
    out = RDMReg(2.0, law, density, directions=5)(*views)
    target = rectified_sample(9, 4, law, density, STEP).numpy()
    costs = []
    for z in views:
        for a in random_directions(4, 5, STEP).numpy().T:
            p, q = np.maximum(z.numpy(), 0) @ a, target @ a
            distances = (p[:, None] - q) ** 2
            costs.append(distances[linear_sum_assignment(distances)].mean())
    assert out.terms["wasserstein"].item() == pytest.approx(np.mean(costs), rel=1e-12)
    assert out.loss.item() == pytest.approx(2 * np.mean(costs), rel=1e-12)


@every_law
@pytest.mark.parametrize("density", [0.5, 0.2, 0.9])
def test_sample_is_of_the_law(law, density):
    mu = location(law, density)
    assert mu == pytest.approx(LAWS[law].ppf(density), abs=1e-12)
    y = rectified_sample(4000, 5, law, density, STEP).numpy().ravel()
    assert (y > 0).mean() == pytest.approx(density, abs=0.015) and (y >= 0).all()
    positive = LAWS[law].cdf(y[y > 0] - mu)  # uniform on (1 - density, 1)
    assert stats.kstest((positive - 1 + density) / density, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(y.reshape(4000, 5).T) - np.eye(5)).max() < 0.06


@every_law
def test_embeddings_of_the_law_score_lower_than_others(law):
    z = rectified_sample(512, 8, law, 0.5, STEP + 100)
    same = RDMReg(law=law)(z).terms["wasserstein"].item()
    for other in (3 * z, z + 1, 0 * z, -z, z[:, :1].expand(512, 8)):
        assert RDMReg(law=law)(other).terms["wasserstein"].item() > 3 * same


def test_training_makes_embeddings_sparse_and_keeps_them_from_collapse():
    z = (0.1 * sample(256, 4)).requires_grad_()
    criterion, optimizer = RDMReg(density=0.25, directions=32), torch.optim.Adam([z], lr=0.02)
    before = (z > 0).double().mean().item()
    for _ in range(400):
        optimizer.zero_grad()
        criterion(z).loss.backward()
        optimizer.step()
    # what is exactly 0 has no way back, what is nearly 0 counts as 0
    after = (z.detach() > 0.05).double().mean().item()
    assert before == pytest.approx(0.5, abs=0.1) and after == pytest.approx(0.25, abs=0.06)


def test_rectified_embeddings_are_taken_as_they_are():
    z = sample(16, 3)
    assert RDMReg()(z).loss == RDMReg()(z.relu()).loss
