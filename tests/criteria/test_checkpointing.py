"""Criteria inside activation checkpointing, which calls them twice."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from e2mc.criteria import CRITERIA, Criterion, create_criterion

every = pytest.mark.parametrize("name", CRITERIA)
both_kinds = pytest.mark.parametrize("reentrant", [False, True])
STATES = ("sigreg", "visreg", "rdmreg", "corinfomax", "random-direction")


def batches(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 12, 5, generator=generator) for _ in range(count)]


def steps(name: str, reentrant: bool | None) -> tuple[list, Criterion]:
    """Gradients of a network in some steps, and the criterion after them."""
    torch.manual_seed(0)
    net, criterion = nn.Linear(5, 4), create_criterion(name)

    def loss(views: Tensor) -> Tensor:
        return criterion(*net(views)).loss

    gradients = []
    for views in batches():
        net.zero_grad()
        x = views.requires_grad_()
        value = loss(x) if reentrant is None else checkpoint(loss, x, use_reentrant=reentrant)
        (2 * value).backward()
        gradients.append([value.detach(), net.weight.grad.clone(), x.grad])
    return gradients, criterion


@every
@both_kinds
def test_checkpointed_steps_are_the_same(name, reentrant):
    plain, criterion = steps(name, None)
    checkpointed, other = steps(name, reentrant)
    # not bit by bit: singular values without their vectors are computed in another way
    torch.testing.assert_close(checkpointed, plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other.state_dict(), criterion.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", STATES)
@both_kinds
def test_call_that_is_repeated_too_late_is_refused(name, reentrant):
    criterion = create_criterion(name)
    losses = [
        checkpoint(lambda z: criterion(*z).loss, views.requires_grad_(), use_reentrant=reentrant)
        for views in batches(2)
    ]
    with pytest.raises(ValueError, match="was called again before activation checkpointing"):
        sum(losses).backward()


@pytest.mark.parametrize("name", STATES)
def test_state_follows_a_criterion_that_is_copied_or_evaluated(name):
    criterion, (first, second) = create_criterion(name), batches(2)
    criterion(*first)
    copied = copy.deepcopy(criterion)
    torch.testing.assert_close(copied(*second), criterion(*second), rtol=0, atol=0)
    criterion.eval()
    z = first.requires_grad_()
    checkpoint(lambda z: criterion(*z).loss, z, use_reentrant=False).backward()
    assert z.grad.isfinite().all()
