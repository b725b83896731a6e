"""Anchor: formula, what it stays near, and what z is standardised by."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from e2mc.criteria import E2MC
from e2mc.entropy import mapped_entropy
from e2mc.methods import create_method
from e2mc.methods.anchor import Standardise


@pytest.fixture
def views():
    torch.manual_seed(1)
    images = torch.randn(16, 1, 8, 8)
    return [images + 0.1 * torch.randn_like(images) for _ in range(2)]


def begun(backbone, views, **params):
    """An anchor in its first epoch, over two batches of half of the images each."""
    method = create_method("anchor", backbone, **params)
    method.begin_run(16)
    halves = [[view[:8] for view in views], [view[8:] for view in views]]
    indices = torch.arange(16).chunk(2)
    batches = list(zip(indices, halves, strict=True))
    method.begin_epoch(torch.Generator().manual_seed(0), lambda: iter(batches))
    return method


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_loss_is_the_formula(backbone, views):
    base = copy.deepcopy(backbone).eval()
    method = begun(backbone, views, weight=3.0)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.1)
        f1, f2 = (method.backbone(view).double().numpy() for view in views)
        a1, a2 = (base(view).double().numpy() for view in views)
    both = np.concatenate((a1, a2))
    mean, std = both.mean(axis=0), both.std(axis=0)
    z1, z2, a1, a2 = ((x - mean) / std for x in (f1, f2, a1, a2))
    expected = 1 - (cosines(z1, a2).mean() + cosines(z2, a1).mean()) / 2
    output = method(views)
    assert output.loss.item() == pytest.approx(3 * expected, rel=1e-5)
    assert output.terms["anchor"].item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(output.embeddings[0].detach(), z1, rtol=1e-4, atol=1e-5)


def test_statistics_are_of_so_many_images(backbone, views):
    base = copy.deepcopy(backbone).eval()
    method = begun(backbone, views, images=8)
    with torch.no_grad():
        features = base(torch.cat([view[:8] for view in views]))
    torch.testing.assert_close(method.projector.mean, features.mean(dim=0))
    torch.testing.assert_close(method.projector.std, features.std(dim=0, correction=0))


def test_anchor_rests_and_stays_in_evaluation_mode(backbone, views):
    method = begun(backbone, views).train()
    before = copy.deepcopy(method.anchor.state_dict())
    assert method.backbone.training and not method.anchor.training
    method(views).loss.backward()
    assert all(torch.equal(method.anchor.state_dict()[k], v) for k, v in before.items())
    assert not any(
        key.startswith("anchor")
        for key in dict(method.named_parameters())
        if method.get_parameter(key).requires_grad
    )


def test_a_second_run_keeps_the_statistics_and_anchors_anew(backbone, views):
    first = begun(backbone, views)
    statistics = first.projector.mean.clone(), first.projector.std.clone()
    with torch.no_grad():
        first.backbone[0].weight.mul_(2)
    second = create_method("anchor", copy.deepcopy(first.backbone))
    second.projector.load_state_dict(first.projector.state_dict())
    second.begin_run(16)
    second.begin_epoch(torch.Generator(), lambda: iter([(torch.arange(16), views)]))
    assert torch.equal(second.projector.mean, statistics[0])
    assert torch.equal(second.projector.std, statistics[1])
    assert torch.equal(second.anchor[0].weight, first.backbone[0].weight)


def test_without_a_run_z_is_standardised_by_the_batch(backbone, views):
    method = create_method("anchor", backbone)
    for z in method.embed(views):
        torch.testing.assert_close(z.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(8))
    with pytest.raises(RuntimeError, match="call begin_run and begin_epoch"):
        method(views)


def test_a_coordinate_that_never_varies_is_0():
    features = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    one = Standardise(2)
    torch.testing.assert_close(one(features), torch.tensor([[0.0, -1.0], [0.0, 1.0]]))
    one.set(features.mean(dim=0), features.std(dim=0, correction=0))
    torch.testing.assert_close(one(features), torch.tensor([[0.0, -1.0], [0.0, 1.0]]))


def test_a_criterion_acts_and_the_anchor_holds(backbone, views):
    """Entropy rises with E2MC, and stays nearer to the start than with E2MC alone."""

    def train(weight):
        method = begun(copy.deepcopy(backbone), views, weight=weight)
        before = torch.stack(
            [mapped_entropy(z, "normal").mean() for z in method(views).embeddings]
        ).mean()
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
        criterion = E2MC(1.0, 1.0)
        for _ in range(40):
            output = method(views)
            optimizer.zero_grad()
            (output.loss + criterion(*output.embeddings).loss).backward()
            optimizer.step()
        after = torch.stack([mapped_entropy(z, "normal").mean() for z in output.embeddings]).mean()
        return before.item(), after.item(), output.terms["anchor"].item()

    before, held, near = train(1.0)
    _, free, far = train(1e-9)
    assert held > before + 0.02 and free > before + 0.02
    assert near < far
