import pytest
import torch

from e2mc.models import create_backbone


def test_small_resnet_shapes():
    backbone = create_backbone("resnet-small", 1)
    images = torch.randn(2, 1, 28, 28)
    assert backbone(images).shape == (2, backbone.feature_dim)
    assert backbone.feature_map(images).shape == (2, backbone.feature_dim, 2, 2)
    assert backbone(torch.randn(2, 1, 14, 14)).shape == (2, backbone.feature_dim)
    assert 0.3e6 <= sum(parameter.numel() for parameter in backbone.parameters()) <= 1e6


def test_unknown_backbone():
    with pytest.raises(ValueError, match="backbone 'resnet-tiny' does not exist, expected one of"):
        create_backbone("resnet-tiny")


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("torchvision:resnet5", 3, "torchvision has no model 'resnet5'"),
        ("torchvision:vit_b_16", 3, "VisionTransformer has no global average pooling: choose"),
        ("torchvision:resnet18", 1, "takes images of 3 channels, not 1"),
        ("torchvision:", 3, "backbone 'torchvision:' does not exist"),
        ("hub:resnet18", 3, "backbone 'hub:resnet18' does not exist, expected one of resnet-small"),
    ],
)
def test_backbones_that_cannot_be_made(name, channels, message):
    with pytest.raises(ValueError, match=message):
        create_backbone(name, channels)
