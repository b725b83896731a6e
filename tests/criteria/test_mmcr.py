"""MMCR against the official values: as added to SwAV, and upstream's own."""

from __future__ import annotations

import torch

from e2mc.criteria import MMCR


def test_official_step(golden, same_value, same_swav_step):
    g = golden("swav_mmcr_b32_d16_k30")
    out = same_swav_step(g, MMCR(float(g["mmcr_weight"])))
    same_value(-out.terms["nuclear_norm"], g["f64_mmcr_loss"])


def test_upstream(golden, same_value, same_gradient):
    g = golden("mmcr_original_B32_N4_d16")
    z = g["z_interleaved_B_times_N"].double().requires_grad_()
    loss = MMCR()(*z.view(32, 4, 16).unbind(dim=1)).loss
    loss.backward()
    same_value(loss.detach(), g["f64_loss_lambda0"])
    same_gradient(z.grad, g["f64_grad_lambda0"])


def test_orthonormal_centroids_reach_the_maximum():
    basis = torch.eye(8)
    assert MMCR()(basis, basis).terms["nuclear_norm"].item() == 8
