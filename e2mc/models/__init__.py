"""Backbones by name."""

from __future__ import annotations

from torch import nn

from e2mc.models.small_resnet import SmallResNet


def _resnet50(in_channels: int) -> nn.Module:
    from e2mc.models.resnet50 import ResNet50

    return ResNet50(in_channels)


BACKBONES = {"resnet-small": SmallResNet, "resnet50": _resnet50}


def create_backbone(name: str, in_channels: int = 3) -> nn.Module:
    """A freshly initialised backbone.

    Every backbone maps images (N, in_channels, H, W) to pooled features (N, feature_dim), and has
    ``feature_map`` for the features before the pooling (N, feature_dim, h, w).

    Raises ValueError for a name that is not in ``BACKBONES``.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name](in_channels)


__all__ = ["BACKBONES", "SmallResNet", "create_backbone"]
