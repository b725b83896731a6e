"""VICReg against the official code's values, and what its module does with views."""

from __future__ import annotations

import pytest
import torch

from e2mc.criteria import E2MC
from e2mc.methods import create_method
from e2mc.methods.vicreg import vicreg_loss

GOLDENS = ["icereg_vicreg_only_64x32", "icereg_64x32", "icereg_partialbatch_144x32_bs512"]


@pytest.mark.parametrize("name", GOLDENS)
def test_value_and_terms_are_the_official_ones(golden, same_value, name):
    g = golden(name)
    loss, terms = vicreg_loss(g["x"].double(), g["y"].double(), batch_size=int(g["batch_size"]))
    same_value(loss, g["f64_vicreg_loss"])
    same_value(terms["vicreg_invariance"], g["f64_repr_loss"])
    same_value(terms["vicreg_variance"], g["f64_std_loss"])
    same_value(terms["vicreg_covariance"], g["f64_cov_loss"])


@pytest.mark.parametrize("name", GOLDENS)
def test_gradient_with_e2mc_is_the_official_one(golden, same_value, same_gradient, name):
    g = golden(name)
    x, y = (g[key].double().requires_grad_() for key in ("x", "y"))
    batch_size = int(g["batch_size"])
    criterion = E2MC(
        float(g["ent_coeff"]),
        float(g["hypercov_coeff"]),
        mapping="logistic",
        epsilon=float(g["epsilon"]),
        batch_size=batch_size,
    )
    loss = vicreg_loss(x, y, batch_size=batch_size)[0] + criterion(x, y).loss
    loss.backward()
    same_value(loss.detach(), g["f64_loss"])
    same_gradient(x.grad, g["f64_grad_x"])
    same_gradient(y.grad, g["f64_grad_y"])


def test_covariance_divisor_without_batch_size_is_the_batch_at_hand():
    z1, z2 = torch.randn(2, 12, 5, dtype=torch.float64)
    assert vicreg_loss(z1, z2)[0] == vicreg_loss(z1, z2, batch_size=12)[0]
    covariance = vicreg_loss(z1, z2)[1]["vicreg_covariance"]
    nominal = vicreg_loss(z1, z2, batch_size=23)[1]["vicreg_covariance"]
    torch.testing.assert_close(nominal, covariance / 4)


def test_weights_scale_their_terms():
    z1, z2 = torch.randn(2, 12, 5, dtype=torch.float64)
    weights = {"invariance_weight": 2.0, "variance_weight": 3.0, "covariance_weight": 5.0}
    loss, terms = vicreg_loss(z1, z2, **weights)
    invariance, variance, covariance = terms.values()
    torch.testing.assert_close(loss, 2 * invariance + 3 * variance + 5 * covariance)


def test_each_view_is_normalised_by_itself(backbone):
    method = create_method("vicreg", backbone, expander=(16, 16))
    views = [torch.randn(32, 1, 8, 8), 3 + torch.randn(32, 1, 8, 8)]
    out = method(views)
    for view, embedding in zip(views, out.embeddings, strict=True):
        torch.testing.assert_close(embedding, method.projector(method.backbone(view)))


def test_official_expander_layout(backbone):
    method = create_method("vicreg", backbone, expander=(16, 32, 24))
    shapes = {key: tuple(value.shape) for key, value in method.projector.named_parameters()}
    assert shapes["0.weight"] == (16, 8)
    assert shapes["3.weight"] == (32, 16)
    assert shapes["6.weight"] == (24, 32)
    assert "0.bias" in shapes and "6.bias" not in shapes


def test_wants_two_views(backbone):
    method = create_method("vicreg", backbone, expander=(16,))
    with pytest.raises(ValueError, match="two views"):
        method([torch.randn(4, 1, 8, 8)] * 3)
