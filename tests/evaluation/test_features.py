from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, PlainView, ViewRecipe, plain_view
from e2mc.evaluation.features import (
    CachedFeatures,
    Moments,
    ViewFeatures,
    extract_features,
    pool_spatially,
    whiten,
    whitening,
)
from e2mc.models import create_backbone

GREY = Normalisation((0.3,), (0.35,))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.zeros(10, dtype=torch.long), ("a",))


def test_features_do_not_depend_on_the_batches_and_leave_the_mode(images):
    torch.manual_seed(0)
    backbone = create_backbone("resnet-small", 1).train()
    whole = extract_features(backbone, images, view=PlainView(28), normalisation=GREY)
    parts = extract_features(backbone, images, view=PlainView(28), normalisation=GREY, batch_size=3)
    assert backbone.training
    assert whole.shape == (10, backbone.feature_dim)
    assert not whole.requires_grad
    assert not whole.is_inference()
    torch.testing.assert_close(whole, parts)
    backbone.eval()
    torch.testing.assert_close(
        whole, backbone(plain_view(images.images, GREY, PlainView(28))).detach()
    )


def test_spatial_features_are_two_by_two(images):
    backbone = create_backbone("resnet-small", 1).eval()
    views = plain_view(images.images, GREY, PlainView(28))
    found = extract_features(backbone, images, view=PlainView(28), normalisation=GREY, spatial=True)
    torch.testing.assert_close(found, backbone.feature_map(views).detach().flatten(1))


def test_spatial_pooling_of_a_seven_by_seven_map():
    feature_map = torch.randn(2, 3, 7, 7)
    expected = nn.AvgPool2d(6, stride=1)(feature_map).flatten(1)
    torch.testing.assert_close(pool_spatially(feature_map), expected)
    with pytest.raises(ValueError, match="at least 2 x 2, found 1 x 1"):
        pool_spatially(torch.randn(2, 3, 1, 1))


def test_features_must_be_finite_and_of_something(images):
    backbone = create_backbone("resnet-small", 1)
    with pytest.raises(ValueError, match="no images"):
        extract_features(
            backbone, images.subset(torch.arange(0)), view=PlainView(28), normalisation=GREY
        )
    next(backbone.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        extract_features(backbone, images, view=PlainView(28), normalisation=GREY)


def test_whitened_features_have_unit_covariance():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    white = whiten(features + 5, *whitening(features + 5, ridge=0))
    torch.testing.assert_close(torch.cov(white.T), torch.eye(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)


def test_ridge_shrinks_weak_directions_by_its_formula():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 3, generator=generator) * torch.tensor([3.0, 1.0, 0.01])
    eigenvalues = torch.linalg.eigvalsh(torch.cov(features.double().T)).flip(0)
    white = whiten(features, *whitening(features, ridge=0.1))
    expected = eigenvalues / (eigenvalues + 0.1 * eigenvalues.mean())
    torch.testing.assert_close(white.double().var(dim=0), expected, atol=1e-4, rtol=1e-3)


def test_dead_dimensions_stay_zero():
    features = torch.randn(100, 4)
    features[:, 1] = 0.7
    features[:, 3] = features[:, 0]
    mean, transform = whitening(features, ridge=0)
    assert transform.isfinite().all()
    assert (transform[:, 2:] == 0).all()
    white = whiten(features, mean, transform)
    torch.testing.assert_close(white.var(dim=0)[:2], torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("features", "ridge", "message"),
    [
        (torch.randn(10, 3), -1.0, "negative"),
        (torch.randn(1, 3), 0.1, "at least 2 features"),
        (torch.full((10, 3), 1.7), 0.1, "all are equal"),
        (torch.zeros(10, 3), 0.1, "all are equal"),
    ],
)
def test_whitening_errors(features, ridge, message):
    with pytest.raises(ValueError, match=message):
        whitening(features, ridge)


def test_cached_features_pass_once_over_what_is_wanted():
    stream = CachedFeatures(torch.arange(20.0).unsqueeze(1), seed=1)
    wanted = torch.tensor([3, 5, 8, 13])
    (values, indices), (_, later) = (next(stream.epoch(e, wanted)) for e in (0, 1))
    assert values.flatten().tolist() == indices.tolist()
    assert sorted(indices.tolist()) == sorted(later.tolist()) == wanted.tolist()
    whole = torch.arange(20)
    orders = [next(stream.epoch(epoch, whole))[1].tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


def test_moments_whiten_like_the_features_themselves():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 5, generator=generator) @ torch.randn(5, 5, generator=generator) + 3
    features[:, 2] = 0.7
    moments = Moments(5)
    for batch in features.split(64):
        moments.add(batch)
    torch.testing.assert_close(moments.covariance, torch.cov(features.double().T))
    expected = whiten(features, *whitening(features))
    found = whiten(features, *moments.whitening())
    torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="at least 2 features, found 0"):
        Moments(5).whitening()


class Mean(nn.Module):
    """Features that tell images and views apart; the map is 3 x 3."""

    feature_dim = 1

    def forward(self, views):
        return views.mean(dim=(2, 3))

    def feature_map(self, views):
        return nn.functional.adaptive_avg_pool2d(views, 3)


def test_streamed_features_are_new_views_of_what_is_wanted(images):
    backbone = Mean().train()
    stream = ViewFeatures(
        backbone, images, recipe=ViewRecipe(14), normalisation=GREY, batch_size=4, seed=3
    )
    assert (stream.dim, stream.positions) == (1, 1)
    wanted = torch.tensor([1, 4, 5, 7, 8, 9])
    epochs = [list(stream.epoch(epoch, wanted)) for epoch in (0, 1, 0)]
    assert [len(piece) for _, piece in epochs[0]] == [4, 2]
    orders = [torch.cat([piece for _, piece in epoch]) for epoch in epochs]
    values = [torch.cat([features for features, _ in epoch]) for epoch in epochs]
    assert all(order.sort().values.tolist() == wanted.tolist() for order in orders)
    assert torch.equal(values[0], values[2]) and torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])
    by_image = [value[order.argsort()] for value, order in zip(values[:2], orders[:2])]
    assert ((by_image[0] - by_image[1]).abs() > 1e-6).all()
    assert backbone.training


def test_streamed_spatial_features_are_ordered_by_channel(images):
    stream = ViewFeatures(Mean(), images, recipe=ViewRecipe(14), normalisation=GREY, spatial=True)
    assert (stream.dim, stream.positions) == (4, 4)
    [(features, _)] = stream.epoch(0, torch.arange(10))
    assert features.shape == (10, 4)


class Hungry(Mean):
    """A backbone on a GPU with memory for a few images."""

    room = 3

    def forward(self, views):
        if len(views) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(views)


def test_what_a_gpu_cannot_hold_at_once_goes_in_halves(images):
    arguments = {"view": PlainView(28), "normalisation": GREY}
    expected = extract_features(Mean(), images, **arguments)
    assert torch.equal(extract_features(Hungry(), images, **arguments), expected)
    nothing = Hungry()
    nothing.room = 0
    with pytest.raises(RuntimeError, match="no memory left for one image: free it"):
        extract_features(nothing, images, **arguments)
