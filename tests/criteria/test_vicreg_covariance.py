"""VICReg's covariance term against the official values."""

from __future__ import annotations

import pytest

from e2mc.criteria import VICRegCovariance


@pytest.mark.parametrize("name", ["64x32", "partialbatch_144x32_bs512"])
def test_official_term(golden, same_value, name):
    g = golden(f"icereg_{name}")
    out = VICRegCovariance(2.0, batch_size=int(g["batch_size"]))(g["x"].double(), g["y"].double())
    same_value(out.terms["covariance"], g["f64_cov_loss"])
    same_value(out.loss, 2 * g["f64_cov_loss"])
