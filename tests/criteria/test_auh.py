"""AUH against the official values and pairs counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from e2mc.criteria import AUH
from e2mc.criteria.auh import uniformity


@pytest.mark.parametrize("t", [2, 3])
def test_official_step(golden, same_value, same_swav_step, t):
    g = golden(f"swav_auh_t{t}_b32_d16_k30")
    out = same_swav_step(g, AUH(float(g["unif_weight"]), float(g["kernel_width"])))
    same_value(out.terms["uniformity"], g["f64_unif_loss"])


@pytest.mark.parametrize("t", [2, 3])
def test_uniformity_is_the_official_one(golden, same_value, same_gradient, t):
    g = golden("align_uniform_64x16")
    x = g["x"].double().requires_grad_()
    value = uniformity(x, t)
    value.backward()
    same_value(value.detach(), g[f"f64_uniform_t{t}"])
    same_gradient(x.grad, g[f"f64_uniform_t{t}_grad"])


def test_antipodes_and_duplicates():
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert AUH(t=3.0)(poles).loss.item() == pytest.approx(-12)
    assert AUH(t=3.0)(torch.ones(5, 2)).loss.item() == pytest.approx(0, abs=1e-5)


def test_small_potentials_do_not_underflow():
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert AUH(t=100.0)(poles).loss.item() == pytest.approx(-400)
    assert math.exp(-400) > 0  # in float64, not in float32
