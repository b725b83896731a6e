import official
import pytest
import torch
from torch import nn
from torchvision import models

from e2mc.checkpoints.weights import load_strictly
from e2mc.models import create_backbone


def without_classifier(network):
    return {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}


def test_features_are_those_of_torchvision_and_of_the_official_class():
    torch.manual_seed(0)
    official_resnet = official.ResNet()
    weights = without_classifier(official_resnet)
    ours, theirs = create_backbone("resnet50"), models.resnet50(weights=None)
    load_strictly(ours, weights, "backbone")
    theirs.fc = nn.Identity()
    load_strictly(theirs, weights, "torchvision's")
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    for mode in (True, False):
        for network in (ours, theirs, official_resnet):
            network.double().train(mode)
        features = ours(images)
        assert features.shape == (2, ours.feature_dim) == (2, 2048) and features.std() > 0.1
        torch.testing.assert_close(features, theirs(images))
        torch.testing.assert_close(features, official_resnet(images))
    feature_map = ours.feature_map(images)
    assert feature_map.shape == (2, 2048, 3, 3)
    torch.testing.assert_close(feature_map, official_resnet.feature_map(images))


def test_gradients_are_those_of_the_official_class():
    torch.manual_seed(0)
    theirs, ours = official.ResNet(), create_backbone("resnet50")
    load_strictly(ours, without_classifier(theirs), "backbone")
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    direction = torch.randn(2, 2048, dtype=torch.float64)
    for network in (ours, theirs):
        (network.double().train()(images) * direction).sum().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        scale = float(expected[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=0, atol=1e-9 * scale)


def test_fresh_residual_branches_begin_at_zero():
    backbone = create_backbone("resnet50")
    assert all(not block.bn3.weight.any() for block in backbone.layer3)


def test_channels_last_is_kept():
    backbone = create_backbone("resnet50", 1).to(memory_format=torch.channels_last).eval()
    found = backbone.feature_map(torch.randn(2, 1, 64, 64))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenet_v3_small", 576), ("regnet_y_400mf", 440)]
)
def test_other_networks_of_torchvision(name, width):
    backbone = create_backbone(f"torchvision:{name}").eval()
    features = backbone(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, backbone.feature_dim) == (2, width)
    assert backbone.feature_map(torch.randn(2, 3, 64, 64)).shape == (2, width, 2, 2)


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


class TestTimm:
    @pytest.fixture(autouse=True)
    def timm(self):
        return pytest.importorskip("timm")

    def test_features_are_those_of_timm(self, timm):
        ours = create_backbone("timm:resnet18").eval()
        theirs = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
        theirs.load_state_dict(ours.network.state_dict())
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(ours(images), theirs(images))
        torch.testing.assert_close(ours(images), ours.feature_map(images).mean(dim=(2, 3)))
        assert ours(images).shape == (2, ours.feature_dim)

    def test_transformer_has_no_map(self, timm):
        backbone = create_backbone("timm:vit_tiny_patch16_224").eval()
        images = torch.randn(1, 3, 224, 224)
        assert backbone(images).shape == (1, backbone.feature_dim)
        with pytest.raises(ValueError, match="gives no map of features"):
            backbone.feature_map(images)

    def test_unknown(self, timm):
        with pytest.raises(ValueError, match="timm has no model 'resnet5'"):
            create_backbone("timm:resnet5")


def test_timm_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ValueError, match="needs timm: install it with"):
        create_backbone("timm:resnet18")
