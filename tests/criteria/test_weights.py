"""First weights: balanced gradients, whatever scale the loss has, on one rank and on two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.criteria import E2MC
from e2mc.criteria.weights import balanced_weights
from e2mc.entropy import marginal_entropy, offdiagonal_covariance


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8)).double()


@pytest.fixture
def views():
    torch.manual_seed(1)
    images = torch.randn(64, 6, dtype=torch.float64)
    return images, images + 0.3 * torch.randn_like(images)


def norm(value, model):
    found = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in found]).norm()


def test_weights_balance_gradients(model, views):
    z1, z2 = map(model, views)
    loss = (z1 - z2).square().mean()
    found = E2MC().suggest_weights(z1, z2, loss=loss, parameters=model.parameters())
    u1, u2 = (torch.special.ndtr(z) for z in (z1, z2))
    entropy = (marginal_entropy(u1).mean() + marginal_entropy(u2).mean()) / 2
    covariance = offdiagonal_covariance(u1) + offdiagonal_covariance(u2)
    assert found["entropy_weight"] == pytest.approx(float(norm(loss, model) / norm(entropy, model)))
    most = float(norm(loss, model) / norm(covariance, model))
    assert found["covariance_weight"] == pytest.approx(min(most, found["entropy_weight"]))


def test_weights_follow_the_scale_of_the_loss(model, views):
    z1, z2 = map(model, views)
    loss = (z1 - z2).square().mean()
    once, tenfold = (
        E2MC().suggest_weights(z1, z2, loss=scale * loss, parameters=model.parameters())
        for scale in (1, 10)
    )
    for name, weight in once.items():
        assert tenfold[name] == pytest.approx(10 * weight)


def test_weights_of_other_terms(model, views):
    z = model(views[0])
    terms = {"a": z.square().mean(), "b": 5 * z.square().mean()}
    found = balanced_weights(terms, z.sum(), model.parameters())
    assert found["a"] == pytest.approx(5 * found["b"])


@pytest.mark.parametrize("spread", [0.0, 1e-6])
def test_a_dead_coordinate_changes_nothing(spread, model, views):
    """Its entropy has a gradient that is thousands of times that of the others."""
    z = [model(view) for view in views]
    dead = [torch.cat((one, 0.5 + spread * one[:, :1]), dim=1) for one in z]
    given = {"loss": z[0].square().mean(), "parameters": list(model.parameters())}
    assert E2MC().suggest_weights(*dead, **given) == pytest.approx(
        E2MC().suggest_weights(*z, **given)
    )


def test_embeddings_that_are_all_alike_are_refused(model, views):
    z = model(views[0])
    with pytest.raises(ValueError, match="every coordinate of the embeddings is constant"):
        E2MC().suggest_weights(0 * z, loss=z.sum(), parameters=model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z, model: {"loss": z.sum().detach()}, "loss has no gradient"),
        (lambda z, model: {"loss": 0 * z.sum()}, "gradient of loss has the norm 0"),
        (lambda z, model: {"parameters": []}, "none of the parameters is trained"),
        (lambda z, model: {"parameters": [nn.Parameter(z.new_ones(1))]}, "has the norm 0"),
    ],
)
def test_what_cannot_be_balanced_is_refused(change, message, model, views):
    z = model(views[0])
    given = {"loss": z.square().sum(), "parameters": model.parameters()} | change(z, model)
    with pytest.raises(ValueError, match=message):
        E2MC().suggest_weights(z, loss=given["loss"], parameters=given["parameters"])
