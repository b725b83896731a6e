"""The ResNet-18 of CIFAR against torchvision's."""

import pytest
import torch
from torchvision import models

from e2mc.models import create_backbone
from e2mc.models.folding import fold_batch_norm


def test_all_but_the_stem_is_torchvisions():
    ours, theirs = create_backbone("resnet18-cifar"), models.resnet18(weights=None)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    del shapes["fc.weight"], shapes["fc.bias"]
    found = {key: value.shape for key, value in ours.state_dict().items()}
    assert found == shapes | {"conv1.weight": (64, 3, 3, 3)}
    rest = {k: v for k, v in ours.state_dict().items() if not k.startswith("conv1")}
    theirs.load_state_dict(rest, strict=False)
    theirs.conv1 = ours.conv1
    theirs.maxpool = torch.nn.Identity()
    theirs.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(channels):
    backbone = create_backbone("resnet18-cifar", channels).eval()
    images = torch.randn(2, channels, 32, 32)
    assert backbone.feature_dim == 512
    assert backbone.feature_map(images).shape == (2, 512, 4, 4)
    torch.testing.assert_close(
        fold_batch_norm(backbone)(images), backbone(images), rtol=1e-3, atol=1e-4
    )
