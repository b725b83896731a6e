"""The coding rate against numpy's determinant, lightly's rate and its own bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria import CodingRate


def sample(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n, d", [(32, 8), (5, 16), (6, 6)])
@pytest.mark.parametrize("distortion", [0.5, 0.05])
def test_value_is_the_determinant_of_all_coordinates(n, d, distortion):
    views = [sample(n, d, seed) for seed in range(2)]
    out = CodingRate(3.0, distortion)(*views)
    rates = []
    for z in views:
        e = z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True)
        values = np.linalg.eigvalsh(e.T @ e)
        rates.append(np.log1p(np.maximum(values, 0) * d / (n * distortion)).sum() / 2)
    assert out.terms["coding_rate"].item() == pytest.approx(np.mean(rates), rel=1e-10)
    assert out.loss.item() == pytest.approx(-3 * np.mean(rates), rel=1e-10)


@pytest.mark.parametrize("n, d", [(32, 8), (5, 16)])
def test_value_and_gradient_are_lightlys(n, d):
    oracle = pytest.importorskip("lightly.loss.emp_ssl_loss").tcr_loss
    views = [sample(n, d, seed).requires_grad_() for seed in range(2)]
    loss = CodingRate(1.0, 0.2)(*views).loss
    expected = -oracle(torch.stack([normalize(z) for z in views]), eps=0.2)
    # lightly's identity is of float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        torch.autograd.grad(loss, views),
        torch.autograd.grad(expected, views),
        rtol=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize("n, d", [(8, 8), (16, 8), (4, 8)])
def test_rows_that_fill_all_directions_reach_the_bound(n, d):
    rows = torch.eye(d).repeat(2, 1)[:n]
    k = min(n, d)
    bound = k / 2 * math.log(1 + d / (k * 0.5))
    assert CodingRate()(rows).terms["coding_rate"].item() == pytest.approx(bound, rel=1e-6)
    assert CodingRate()(sample(n, d)).terms["coding_rate"] < bound
    constant = CodingRate()(torch.ones(n, d)).terms["coding_rate"].item()
    assert constant == pytest.approx(math.log(1 + d / 0.5) / 2, rel=1e-5)
