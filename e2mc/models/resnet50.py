"""Convolutional networks of torchvision without their classifiers, among them the ResNet-50."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from e2mc.errors import InputError


class PooledNetwork(nn.Sequential):
    """A network of torchvision up to its global average pooling, with torchvision's own keys.

    Args:
        network: a model whose children up to the one named ``avgpool`` are applied in their order,
            and whose classifier begins with a linear layer (ResNet, ResNeXt, RegNet, EfficientNet,
            MobileNetV3).

    Attributes:
        feature_dim: width of the pooled features.

    Shape: (N, C, H, W) -> (N, feature_dim).

    Raises:
        ValueError: if the network has no global average pooling of that name.
    """

    def __init__(self, network: nn.Module) -> None:
        children = dict(network.named_children())
        if "avgpool" not in children:
            raise InputError(
                f"torchvision's {type(network).__name__} has no global average pooling: choose a "
                "ResNet, ResNeXt, RegNet, EfficientNet or MobileNetV3, or one of timm's models"
            )
        names = list(children)
        split = names.index("avgpool")
        super().__init__(OrderedDict((name, children[name]) for name in names[:split]))
        head = nn.ModuleList(children[name] for name in names[split:])
        first = next(module for module in head.modules() if isinstance(module, nn.Linear))
        self.feature_dim = first.in_features

    def feature_map(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, feature_dim, h, w), before the pooling."""
        return super().forward(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.feature_map(images), 1).flatten(1)


class ResNet50(PooledNetwork):
    """ResNet-50 as VICReg, SwAV and SimSiam use it, with the keys of their released files.

    Stride on the 3x3 convolution of a block, and residual branches that begin at zero. VICReg's and
    SwAV's own classes pad the images by 1 and then by 2 in the first convolution, which is
    torchvision's padding of 3.

    Args:
        in_channels: channels of the images.

    Shape: (N, in_channels, H, W) -> (N, 2048); ``feature_map`` gives (N, 2048, H/32, W/32).

    Source: He et al., 2016 (arXiv 1512.03385), table 1; stride and initialisation as in Goyal et
        al., 2017 (arXiv 1706.02677).
    """

    def __init__(self, in_channels: int = 3) -> None:
        network = models.resnet50(weights=None, zero_init_residual=True)
        if in_channels != 3:
            network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(network)


def torchvision_backbone(name: str, in_channels: int) -> PooledNetwork:
    """A network of torchvision by its name, with fresh weights.

    Raises:
        ValueError: if there is no such network, it has no global average pooling, or
            ``in_channels`` is not 3.
    """
    if name not in models.list_models():
        raise InputError(f"torchvision has no model {name!r}: see torchvision.models.list_models()")
    if in_channels != 3:
        raise InputError(f"torchvision's {name} takes images of 3 channels, not {in_channels}")
    return PooledNetwork(models.get_model(name, weights=None))
