"""SimSiam against the official code's values, and its module's heads and groups."""

from __future__ import annotations

import pytest
import torch

from e2mc.criteria import E2MC
from e2mc.methods import create_method
from e2mc.methods.simsiam import simsiam_loss


@pytest.mark.parametrize("name", ["simsiam_only_64x32", "simsiam_e2mc_64x32"])
def test_value_and_gradient_are_the_official_ones(golden, same_value, same_gradient, name):
    g = golden(name)
    inputs = {key: g[key].double().requires_grad_() for key in ("p1", "p2", "z1", "z2")}
    loss = simsiam_loss(**inputs)
    same_value(loss.detach(), g["f64_ss_loss"])
    criterion = E2MC(float(g["ent_coeff"]), float(g["hypercov_coeff"]), mapping="normal")
    (loss + criterion(inputs["z1"], inputs["z2"]).loss).backward()
    for key, tensor in inputs.items():
        same_gradient(tensor.grad, g[f"f64_grad_{key}"])


def test_the_loss_sends_no_gradient_to_the_targets(golden):
    g = golden("simsiam_only_64x32")
    z1, z2 = g["z1"].requires_grad_(), g["z2"].requires_grad_()
    p1, p2 = g["p1"].requires_grad_(), g["p2"].requires_grad_()
    simsiam_loss(p1, p2, z1, z2).backward()
    assert z1.grad is None and z2.grad is None


def test_embeddings_of_each_view_are_standardised_and_carry_gradient(backbone):
    method = create_method("simsiam", backbone, dim=6, predictor_hidden_dim=4)
    out = method([torch.randn(32, 1, 8, 8), 3 + torch.randn(32, 1, 8, 8)])
    for z in out.embeddings:
        torch.testing.assert_close(z.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(z.var(dim=0, correction=0), torch.ones(6), atol=2e-2, rtol=0)
        assert z.requires_grad


def test_groups_hold_every_trainable_parameter_once(backbone):
    method = create_method("simsiam", backbone, dim=6, predictor_hidden_dim=4)
    groups = {group["name"]: group["params"] for group in method.parameter_groups()}
    assert list(groups) == ["encoder", "predictor"]
    assert {id(p) for p in groups["predictor"]} == {id(p) for p in method.predictor.parameters()}
    grouped = [id(p) for params in groups.values() for p in params]
    frozen = method.projector[6].bias
    assert not frozen.requires_grad
    assert sorted(grouped) == sorted(id(p) for p in method.parameters() if p is not frozen)


def test_wants_two_views(backbone):
    method = create_method("simsiam", backbone, dim=6, predictor_hidden_dim=4)
    with pytest.raises(ValueError, match="two views"):
        method([torch.randn(4, 1, 8, 8)])
