"""The ResNet-50 of VICReg, SwAV and SimSiam."""

from __future__ import annotations

from torch import nn
from torchvision import models

from e2mc.models.torchvision_backbone import PooledNetwork


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
        super().__init__(network, in_channels)
