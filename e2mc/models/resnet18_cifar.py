"""A ResNet-18 for images of about 32 x 32 pixels."""

from __future__ import annotations

from torch import nn
from torchvision import models

from e2mc.models.torchvision_backbone import PooledNetwork


class ResNet18CIFAR(PooledNetwork):
    """torchvision's ResNet-18 with the stem that is usual on CIFAR, and torchvision's keys.

    The first convolution is 3 x 3 with stride 1 and there is no max pooling, so that 32 x 32 pixels
    become a map of 4 x 4.

    Args:
        in_channels: channels of the images.

    Shape: (N, in_channels, H, W) -> (N, 512); ``feature_map`` gives (N, 512, H/8, W/8).

    Source: He et al., 2016 (arXiv 1512.03385), table 1; the stem as in Chen et al., 2020 (arXiv
        2002.05709), appendix B.9.
    """

    def __init__(self, in_channels: int = 3) -> None:
        network = models.resnet18(weights=None)
        network.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
        super().__init__(network, in_channels)
