"""SIGReg against the closed form of the Epps-Pulley statistic and a plain transcription."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from e2mc.criteria import SIGReg
from e2mc.criteria.sliced import random_directions

STEP = torch.zeros((), dtype=torch.long)


def sample(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def closed_form(x: Tensor) -> Tensor:
    """Epps and Pulley's statistic of one sample, the integral over the whole line done by hand."""
    n = len(x)
    pairs = torch.exp(-((x[:, None] - x) ** 2) / 2).sum() / n
    singles = torch.exp(-(x**2) / 4).sum() * math.sqrt(2)
    return math.sqrt(2 * math.pi) * (pairs - singles + n / math.sqrt(3))


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (0.3, 0.0), (2.0, 1.0), (0.0, 0.0)])
def test_statistic_is_the_closed_form(scale, shift):
    views = [scale * sample(20, 4, seed) + shift for seed in range(2)]
    criterion = SIGReg(weight=2.0, directions=3, t_max=10.0, points=201)
    out = criterion(*views)
    directions = random_directions(4, 3, STEP)
    expected = torch.stack([closed_form(z @ a) for z in views for a in directions.T]).mean()
    torch.testing.assert_close(out.terms["epps_pulley"], expected)
    torch.testing.assert_close(out.loss, 2 * expected)


def test_default_rule_is_lejepas():
    """Trapezoidal rule with 17 points on [0, 3], both halves of the line."""
    z = sample(32, 5)
    projections = z @ random_directions(5, 256, STEP)
    total = 0.0
    for k in range(17):
        t = 3 * k / 16
        weight = (2 if 0 < k < 16 else 1) * (3 / 16) * math.exp(-(t**2) / 2)
        real, imaginary = (f(t * projections).mean(dim=0) for f in (torch.cos, torch.sin))
        total += weight * ((real - math.exp(-(t**2) / 2)) ** 2 + imaginary**2)
    torch.testing.assert_close(SIGReg(1.0)(z).loss, 32 * total.mean())


def test_normal_embeddings_score_lower_than_others():
    z = sample(512, 8)
    normal = SIGReg()(z).terms["epps_pulley"].item()
    assert normal == pytest.approx(1.06, abs=0.3)
    for other in (3 * z, z + 1, z.abs(), z.sign() * math.sqrt(2), 0 * z):
        assert SIGReg()(other).terms["epps_pulley"] > 3 * normal


def test_training_spreads_a_collapsed_sample():
    z = (0.01 * sample(256, 4)).requires_grad_()
    criterion, optimizer = SIGReg(1.0, directions=32), torch.optim.Adam([z], lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        criterion(z).loss.backward()
        optimizer.step()
    torch.testing.assert_close(
        z.detach().T.cov(), torch.eye(4, dtype=torch.float64), atol=0.2, rtol=0
    )


def test_every_training_step_has_directions_of_its_own_and_resumes_with_them():
    criterion, z = SIGReg(directions=4), sample(16, 3)
    losses = [criterion(z).loss.item() for _ in range(3)]
    assert len(set(losses)) == 3
    resumed = SIGReg(directions=4)
    resumed.load_state_dict({"step": torch.tensor(2)})
    assert resumed(z).loss.item() == losses[2]
    resumed.eval()
    assert resumed(z).loss == resumed(z).loss
    assert list(criterion.state_dict()) == ["step"]
