"""Well-known networks are told by their names and shapes."""

import pytest
import torch
from torchvision import models

from e2mc.checkpoints.architecture import architecture_of

TORCHVISION = {
    "resnet18": "a ResNet-18",
    "resnet34": "a ResNet-34",
    "resnet50": "a ResNet-50",
    "resnet101": "a ResNet-101",
    "wide_resnet50_2": "a ResNet-50 2 times as wide",
    "resnext50_32x4d": "a ResNeXt of the depth of ResNet-50",
    "vit_b_16": "a ViT-B/16 with the names of torchvision",
    "vit_l_32": "a ViT-L/32 with the names of torchvision",
    "convnext_tiny": "a ConvNeXt-T with the names of torchvision",
    "convnext_base": "a ConvNeXt-B with the names of torchvision",
    "swin_t": "a Swin-T with the names of torchvision",
    "mobilenet_v3_small": None,
    "vgg11": None,
}
TIMM = {
    "resnet18": "a ResNet-18",
    "vit_small_patch14_dinov2": "a ViT-S/14 with the names of timm",
    "vit_tiny_patch16_224": "a ViT-Ti/16 with the names of timm",
    "deit_base_patch16_224": "a ViT-B/16 with the names of timm",
    "convnext_small": "a ConvNeXt-S with the names of timm",
    "swin_tiny_patch4_window7_224": "a Swin-T with the names of timm",
    "efficientnet_b0": None,
}


@pytest.mark.parametrize("before", ["", "module.encoder."])
@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name, before):
    with torch.device("meta"):
        weights = models.get_model(name, weights=None).state_dict()
    named = {before + key: value for key, value in weights.items()}
    assert architecture_of(named | {"head.weight": torch.zeros(1)}) == TORCHVISION[name]


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        weights = timm.create_model(name, pretrained=False).state_dict()
    assert architecture_of(weights) == TIMM[name]


def test_two_copies_of_a_network_are_one():
    with torch.device("meta"):
        weights = models.resnet50(weights=None).state_dict()
    both = {f"{side}.{key}": value for side in ("q", "k") for key, value in weights.items()}
    assert architecture_of(both) == "a ResNet-50"
    assert architecture_of({}) is None
