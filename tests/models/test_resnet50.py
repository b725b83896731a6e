import official
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
