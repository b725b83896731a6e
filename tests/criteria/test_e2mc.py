"""E2MC against the official values and against its own formula."""

from __future__ import annotations

import pytest
import torch

from e2mc.criteria import E2MC

MAPS = {"sigmoid": "logistic", "gaussian": "normal"}


@pytest.mark.parametrize("their_map", MAPS)
@pytest.mark.parametrize(
    "name, compare_gradient",
    [
        ("64x32", True),
        ("64x32_othercoef", True),
        ("small_2x8", True),
        ("small_3x8", True),
        ("small_5x8", True),
        ("small_12x8", True),
        ("small_20x8", True),
        ("edge_uniform_quantiles_gaussian", True),
        ("edge_uniform_quantiles_sigmoid", True),
        # How equal values share a gradient depends on the sort.
        ("edge_constcol", False),
        ("edge_ties_16x", False),
        ("edge_saturated_x20", False),
        ("edge_saturated_x1000", False),
    ],
)
def test_one_view_is_the_official_one(
    golden, same_value, same_gradient, name, compare_gradient, their_map
):
    g = golden(f"e2mc_{name}")
    if f"{their_map}_f64_total" not in g:
        pytest.skip("this file is for the other map")
    g |= {key.removeprefix(f"{their_map}_f64_"): value for key, value in g.items()}
    criterion = E2MC(
        float(g["ent_coeff"]),
        float(g["hypercov_coeff"]),
        MAPS[their_map],
        epsilon=float(g["eps"]),
        batch_size=int(g["batch_size"]),
    )
    x = g["x"].double().requires_grad_()
    out = criterion(x)
    same_value(out.loss.detach(), g["total"])
    same_value(out.terms["entropy"], g["ent_mean"])
    same_value(out.terms["covariance"], g["cov_loss"])
    if compare_gradient:
        out.loss.backward()
        same_gradient(x.grad, g["grad_total"])


@pytest.mark.parametrize("name", ["64x32", "partialbatch_144x32_bs512"])
def test_two_views_and_nominal_batch_size_are_the_official_ones(golden, same_value, name):
    g = golden(f"icereg_{name}")
    criterion = E2MC(
        mapping="logistic", epsilon=float(g["epsilon"]), batch_size=int(g["batch_size"])
    )
    out = criterion(g["x"].double(), g["y"].double())
    same_value(out.loss, g["f64_ce_loss"])
    same_value(out.terms["entropy"], g["f64_ent_loss"])
    same_value(out.terms["covariance"], g["f64_hypercov_loss"])


def test_float32_is_close_to_the_official_float64(golden):
    g = golden("e2mc_64x32")
    x = g["x"].clone().requires_grad_()
    out = E2MC()(x)
    out.loss.backward()
    exact = g["gaussian_f64_grad_total"]
    assert abs(out.loss.item() - g["gaussian_f64_total"].item()) < 1e-6
    assert (x.grad - exact).abs().max() < 1e-5 * exact.abs().max()


def test_maximising_entropy_spreads_and_decorrelates():
    torch.manual_seed(0)
    z = (0.1 * torch.randn(256, 1) + 0.02 * torch.randn(256, 8)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    criterion = E2MC(entropy_weight=1.0, covariance_weight=100.0)
    before = criterion(z).terms
    for _ in range(150):
        optimizer.zero_grad()
        criterion(z).loss.backward()
        optimizer.step()
    after = criterion(z).terms
    assert before["entropy"] < -1 and after["entropy"] > -0.1
    correlations = torch.corrcoef(z.detach().T)
    assert (correlations - torch.eye(8)).abs().max() < 0.2
