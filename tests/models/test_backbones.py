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
