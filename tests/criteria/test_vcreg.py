"""VCReg against the official values."""

from __future__ import annotations

import pytest

from e2mc.criteria import VCReg


@pytest.mark.parametrize("space", ["hypersphere", "projector"])
def test_official_step(golden, same_value, same_swav_step, space):
    g = golden(f"swav_vc_{space}_b32_d16_k30")
    out = same_swav_step(g, VCReg(float(g["std_coeff"]), float(g["cov_coeff"]), space))
    same_value(out.terms["variance"], g["f64_std_loss"])
    same_value(out.terms["covariance"], g["f64_cov_loss"])
