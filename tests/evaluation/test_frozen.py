"""The frozen pass: today's numbers where nothing is asked for, near ones in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, PlainView
from e2mc.evaluation.features import CachedFeatures, extract_features
from e2mc.evaluation.frozen import FrozenPass
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.probes import HeldOut, linear_probe
from e2mc.models import create_backbone

GREY = Normalisation((0.3,), (0.35,))


@pytest.fixture(scope="module")
def images():
    """Two shades by two stripes, with noise."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 150, (400, 1, 28, 28), generator=generator)
    labels = torch.arange(400) % 4
    pixels[labels % 2 == 0, :, ::3, :] += 40
    pixels[labels < 2] += 15
    return ImageSet(pixels.to(torch.uint8), labels, tuple("abcd"))


@pytest.fixture(scope="module")
def backbone(images):
    """With the statistics of the images in its batch normalisations."""
    torch.manual_seed(0)
    network = create_backbone("resnet-small", 1)
    with torch.no_grad():
        for _ in range(20):
            network((images.images.float() / 255 - 0.3) / 0.35)
    return network.eval()


def features(backbone, images, **how):
    frozen = FrozenPass(**how).of(backbone)
    return extract_features(frozen, images, view=PlainView(28), normalisation=GREY)


def test_what_asks_for_nothing_is_the_backbone_itself(backbone):
    assert FrozenPass().of(backbone) is backbone
    assert FrozenPass(fold=True).of(backbone) is not backbone


def test_folded_features_are_equal_to_rounding(backbone, images):
    plain, folded = features(backbone, images), features(backbone, images, fold=True)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    assert any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())


def test_half_precision_moves_features_and_accuracies_little(backbone, images):
    plain = features(backbone, images)
    fast = features(backbone, images, precision="bfloat16", fold=True)
    assert fast.dtype == torch.float32
    centred = plain - plain.mean(dim=0)
    # 8 bits: 0.4 % at every rounding
    assert (fast - plain).norm() / centred.norm() < 0.03

    def accuracies(values):
        scores, _ = linear_probe(
            CachedFeatures(values[:200]),
            images.labels,
            {seed: torch.arange(200) for seed in range(5)},
            HeldOut((values[200:], images.labels[200:]), None),
            classes=4,
            protocol=LinearProtocol(epochs=10, batch_size=32),
        )
        return torch.tensor([s["value"] for s in scores if s["selection"] == "last"])

    one, other = accuracies(plain), accuracies(fast)
    assert one.mean() > 60 and (one - other).abs().max() <= 2  # points, of 200 images


def test_map_of_features_passes_alike(backbone, images):
    views = torch.randn(3, 1, 28, 28)
    frozen = FrozenPass(precision="bfloat16", fold=True).of(backbone)
    with torch.no_grad():
        found, expected = frozen.feature_map(views).float(), backbone.feature_map(views)
    assert found.shape == expected.shape
    assert (found - expected).norm() / expected.norm() < 0.03


def test_setting_of_the_process_is_as_before(backbone):
    before = torch.backends.cudnn.allow_tf32
    with torch.no_grad():
        FrozenPass(tf32=not before).of(backbone)(torch.randn(1, 1, 28, 28))
    assert torch.backends.cudnn.allow_tf32 == before


def test_features_that_become_damaged_later_are_found_at_the_end(images):
    class Damaged(nn.Module):
        feature_dim = 1

        def forward(self, views):
            values = views.mean(dim=(2, 3))
            return values if len(views) == 128 else values / 0

    with pytest.raises(ValueError, match="not finite"):
        features(Damaged(), images)
