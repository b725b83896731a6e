"""KoLeo against lightly's and against neighbours searched by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from e2mc.criteria import KoLeo


def sample(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n, d", [(32, 8), (5, 16), (2, 3)])
def test_value_and_gradient_are_lightlys(n, d):
    oracle = pytest.importorskip("lightly.loss").KoLeoLoss()
    views = [sample(n, d, seed).requires_grad_() for seed in range(2)]
    loss, expected = KoLeo(2.0)(*views).loss, sum(oracle(z) for z in views)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        torch.autograd.grad(loss, views),
        torch.autograd.grad(expected, views),
        rtol=1e-6,
        atol=1e-7,
    )


def test_value_is_that_of_all_pairs():
    z = sample(20, 4).numpy()
    e = z / np.linalg.norm(z, axis=1, keepdims=True)
    distances = np.linalg.norm(e[:, None] - e, axis=2) + 10 * np.eye(20)
    expected = np.log(distances.min(axis=1) + 1e-8).mean()
    out = KoLeo(0.5)(torch.from_numpy(z))
    assert out.terms["log_distance"].item() == pytest.approx(expected, rel=1e-12)
    assert out.loss.item() == pytest.approx(-0.5 * expected, rel=1e-12)


def test_antipodes_and_duplicates():
    poles = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    assert KoLeo(1.0)(poles).loss.item() == pytest.approx(-np.log(2))
    assert KoLeo(1.0)(torch.ones(5, 2)).loss.item() == pytest.approx(-np.log(1e-8))


def test_training_spreads_embeddings():
    z = (0.2 * sample(64, 4) + 1).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.02)
    before = KoLeo()(z).terms["log_distance"]
    for _ in range(300):
        optimizer.zero_grad()
        KoLeo(1.0)(z).loss.backward()
        optimizer.step()
    uniform = KoLeo()(sample(64, 4, seed=1)).terms["log_distance"]
    assert before < uniform - 1 and KoLeo()(z).terms["log_distance"] > uniform
