"""What holds for every method: registry, precision, groups, state, and learning."""

from __future__ import annotations

import pytest
import torch

from e2mc.methods import METHODS, create_method

PARAMS = {
    "vicreg": {"expander": (16, 16)},
    "swav": {"hidden_dim": 16, "dim": 8, "prototypes": 12, "queue_length": 32},
    "simsiam": {"dim": 16, "predictor_hidden_dim": 8},
}


@pytest.fixture(params=METHODS)
def method(request, backbone):
    return create_method(request.param, backbone, **PARAMS[request.param])


@pytest.fixture
def views():
    torch.manual_seed(1)
    images = torch.randn(16, 1, 8, 8)
    return [images + 0.1 * torch.randn_like(images) for _ in range(2)]


def test_unknown_name_is_refused(backbone):
    with pytest.raises(ValueError, match="'byol'.*vicreg"):
        create_method("byol", backbone)


def test_output_has_the_agreed_form(method, views):
    out = method(views)
    assert out.loss.shape == () and out.loss.requires_grad
    assert len(out.embeddings) == method.global_views == 2
    for z in out.embeddings:
        assert z.shape[0] == 16 and z.ndim == 2 and z.requires_grad
    assert out.terms and not any(term.requires_grad for term in out.terms.values())


def test_loss_and_embeddings_are_float32_under_autocast(method, views):
    with torch.autocast("cpu", torch.bfloat16):
        out = method(views)
    assert out.loss.dtype == torch.float32
    assert all(z.dtype == torch.float32 for z in out.embeddings)
    assert all(term.dtype == torch.float32 for term in out.terms.values())
    out.loss.backward()
    torch.testing.assert_close(out.loss, method(views).loss, rtol=0.1, atol=0.05)


def test_every_grouped_parameter_gets_a_gradient(method, views):
    out = method(views)
    out.loss.backward()
    params = [p for group in method.parameter_groups() for p in group["params"]]
    assert all(p.requires_grad and p.grad is not None for p in params)
    assert len(params) == sum(p.requires_grad for p in method.parameters())


def test_frozen_parameters_are_in_no_group(method):
    method.backbone.requires_grad_(False)
    params = {id(p) for group in method.parameter_groups() for p in group["params"]}
    assert not params & {id(p) for p in method.backbone.parameters()}


def test_loss_falls_in_training(method, views):
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = method(views).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])
