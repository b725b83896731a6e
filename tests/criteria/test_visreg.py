"""VISReg against lightly's terms; its gradient against theirs and against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from e2mc.criteria import VISReg
from e2mc.criteria.sliced import random_directions

STEP = torch.zeros((), dtype=torch.long)


def sample(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n, d", [(32, 5), (6, 12)])
def test_terms_and_gradient_are_lightlys(monkeypatch, n, d):
    oracle = pytest.importorskip("lightly.loss.visreg_loss")
    views = [(2 * sample(n, d, seed) + 0.5).requires_grad_() for seed in range(2)]
    out = VISReg(2.0, 3.0, 4.0, directions=7)(*views)
    directions = random_directions(d, 7, STEP)
    monkeypatch.setattr(torch, "randn", lambda *args, **kwargs: directions)
    expected = {
        "scale": sum(oracle.visreg_scale_loss(z) for z in views) / 2,
        "shape": sum(oracle.visreg_shape_loss(z, num_slices=7) for z in views) / 2,
        "center": sum(oracle.visreg_center_loss(z) for z in views) / 2,
    }
    loss = 2 * expected["scale"] + 3 * expected["shape"] + 4 * expected["center"]
    # lightly's quantiles are of float32
    for name, value in expected.items():
        torch.testing.assert_close(out.terms[name], value.detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        torch.autograd.grad(out.loss, views),
        torch.autograd.grad(loss, views),
        rtol=1e-4,
        atol=1e-7,
    )


def test_gradients_of_what_is_not_stopped():
    criterion = VISReg(shape_weight=0.0)
    assert gradcheck(lambda z: criterion(z).loss, sample(7, 3).requires_grad_())
    # with the standard deviation held where it is, the gradient is that of the shape
    z = sample(7, 3).requires_grad_()
    criterion = VISReg(0.0, 1.0, 0.0, directions=5).eval()
    (gradient,) = torch.autograd.grad(criterion(z).loss, z)
    deviation = z.detach().std(dim=0, correction=0) + criterion.epsilon
    directions = random_directions(3, 5, STEP)
    quantiles = torch.special.ndtri(torch.arange(1, 8, dtype=torch.float64) / 8)

    def shape(x: Tensor) -> Tensor:
        projections = (x - x.mean(dim=0)) / deviation @ directions
        return (projections.sort(dim=0).values - quantiles[:, None]).square().mean()

    assert gradcheck(shape, z)
    torch.testing.assert_close(gradient, torch.autograd.grad(shape(z), z)[0])


def test_scale_keeps_its_gradient_where_embeddings_collapse():
    norms = []
    for size in (1.0, 1e-3, 1e-6):
        z = (size * sample(64, 4)).requires_grad_()
        (gradient,) = torch.autograd.grad(VISReg(1.0, 0.0, 0.0)(z).loss, z)
        norms.append(gradient.norm().item())
    assert norms[2] == pytest.approx(norms[1], rel=0.01) and norms[2] > norms[0]


def test_training_spreads_a_collapsed_sample():
    z = (0.01 * sample(256, 4)).requires_grad_()
    criterion, optimizer = VISReg(directions=32), torch.optim.Adam([z], lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        criterion(z).loss.backward()
        optimizer.step()
    torch.testing.assert_close(
        z.detach().T.cov(), torch.eye(4, dtype=torch.float64), atol=0.1, rtol=0
    )


def test_normal_embeddings_score_lower_than_others():
    z = sample(512, 8)
    normal = VISReg()(z)
    assert normal.loss < 0.05
    for other in (3 * z, z + 1, 0 * z, z.abs(), z[:, :1].expand(512, 8)):
        assert VISReg()(other).loss > 3 * normal.loss
