"""Backbones of timm (PyTorch Image Models), for checkpoints of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from e2mc.errors import InputError


class TimmBackbone(nn.Module):
    """A network of timm without its classifier; its keys stand behind ``network.``.

    Args:
        name: a name in ``timm.list_models()``, e.g. "resnet50.a1_in1k" or "convnext_tiny".
        in_channels: channels of the images.

    Attributes:
        feature_dim: width of the pooled features.

    Shape: (N, in_channels, H, W) -> (N, feature_dim).

    Raises:
        ValueError: if timm is not installed or has no such network.
    """

    key_prefix = "network."

    def __init__(self, name: str, in_channels: int = 3) -> None:
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError as error:
            raise InputError(
                f"backbone 'timm:{name}' needs timm: install it with `pip install timm`"
            ) from error
        if not timm.is_model(name):
            raise InputError(f"timm has no model {name!r}: see timm.list_models()")
        self.network: Any = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=in_channels
        )
        self.feature_dim = self.network.num_features

    def feature_map(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, feature_dim, h, w), before the pooling.

        Raises:
            ValueError: if the network's features are not a map, as those of a transformer.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.network.forward_features(images)
        if features.ndim != 4 or features.shape[1] != self.feature_dim:
            raise InputError(
                f"{type(self.network).__name__} gives no map of features "
                f"(N, {self.feature_dim}, h, w): use a convolutional network where one is needed"
            )
        return features

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.contiguous(memory_format=torch.channels_last))
