"""BYOL's loss, target network and momentum against lightly and plain transcriptions."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule

from e2mc.methods import create_method
from e2mc.methods.base import follow, momentum_at
from e2mc.methods.byol import byol_loss

PARAMS = {"hidden_dim": 8, "dim": 4}


def test_loss_is_the_equation_and_lightlys(same_value, same_gradient):
    generator = torch.Generator().manual_seed(0)
    p1, p2, t1, t2 = (
        torch.randn(6, 5, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(4)
    )
    loss = byol_loss(p1, p2, t1, t2)
    unit = torch.nn.functional.normalize
    squares = (unit(p1) - unit(t2)).square() + (unit(p2) - unit(t1)).square()
    same_value(loss.detach(), squares.sum(dim=1).mean().detach())
    similarity = NegativeCosineSimilarity()
    expected = 4 + 2 * (similarity(p1, t2.detach()) + similarity(p2, t1.detach()))
    same_value(loss.detach(), expected.detach())
    for mine, other in zip(
        torch.autograd.grad(loss, [p1, p2]), torch.autograd.grad(expected, [p1, p2]), strict=True
    ):
        same_gradient(mine, other)
    assert torch.autograd.grad(byol_loss(p1, p2, t1, t2), t1, allow_unused=True) == (None,)


@pytest.mark.parametrize("first, last", [(0.996, 1.0), (0.5, 0.9), (0.7, 0.7)])
def test_momentum_moves_by_a_cosine(first, last):
    for step in range(11):
        # lightly counts steps from 0 to max_steps - 1
        assert momentum_at(step / 10, first, last) == pytest.approx(
            cosine_schedule(step, 11, first, last)
        )
    assert momentum_at(0.5, 0.0, 1.0) == pytest.approx(0.5)
    assert momentum_at(0.25, 0.0, 1.0) == pytest.approx(1 - (math.cos(math.pi / 4) + 1) / 2)


def test_target_follows_as_lightlys(backbone):
    method = create_method("byol", backbone, **PARAMS)
    for parameter in method.backbone.parameters():
        torch.nn.init.normal_(parameter)
    expected = copy.deepcopy(method.target_backbone)
    update_momentum(method.backbone, expected, 0.8)
    follow(method.target_backbone, method.backbone, 0.8)
    for mine, other in zip(method.target_backbone.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
        assert not mine.requires_grad


def test_step_moves_the_target_alone_and_by_the_momentum_of_the_progress(backbone):
    method = create_method("byol", backbone, **PARAMS, ema=0.2, ema_last=1.0)
    with torch.no_grad():
        method.projector[0].weight += 1
    online = method.projector[0].weight.clone()
    before = method.target_projector[0].weight.clone()
    method.end_step(0.5)
    expected = 0.6 * before + 0.4 * online
    torch.testing.assert_close(method.target_projector[0].weight, expected)
    assert torch.equal(method.projector[0].weight, online)
    method.end_step(1.0)
    torch.testing.assert_close(method.target_projector[0].weight, expected)


def test_target_starts_as_the_online_network_and_is_in_no_group(backbone):
    method = create_method("byol", backbone, **PARAMS)
    state = method.state_dict()
    for key, value in state.items():
        if key.startswith(("backbone.", "projector.")):
            assert torch.equal(value, state[f"target_{key}"])
    groups = {group["name"]: group["params"] for group in method.parameter_groups()}
    assert list(groups) == ["encoder", "predictor"]
    targets = {id(p) for p in method.target_backbone.parameters()}
    assert not targets & {id(p) for params in groups.values() for p in params}


def test_predictions_meet_the_other_views_target(backbone):
    views = [torch.randn(8, 1, 8, 8), torch.randn(8, 1, 8, 8)]
    method = create_method("byol", backbone, **PARAMS)
    z = [method.projector(method.backbone(view)) for view in views]
    p = [method.predictor(x) for x in z]
    t = [method.target_projector(method.target_backbone(view)) for view in views]
    out = method(views)
    torch.testing.assert_close(out.loss, byol_loss(*p, *t))
    torch.testing.assert_close(out.embeddings, tuple(z))


def test_er_keeps_a_collapsing_run_apart(backbone):
    """A target that follows at once and no predictor's lag to speak of: entropy keeps it spread."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(32, 1, 8, 8, generator=generator)] * 2
    spreads = {}
    for objective in ("own", "er"):
        torch.manual_seed(0)
        method = create_method(
            "byol", copy.deepcopy(backbone), **PARAMS, objective=objective, ema=0.0
        )
        optimizer = torch.optim.Adam(
            [p for group in method.parameter_groups() for p in group["params"]], lr=0.01
        )
        for _ in range(60):
            out = method(views)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            method.end_step(0.0)
        unit = torch.nn.functional.normalize(out.embeddings[0])
        spreads[objective] = unit.var(dim=0).sum().item()
    assert spreads["er"] > max(0.5, spreads["own"])
