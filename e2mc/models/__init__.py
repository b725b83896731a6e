"""Backbones by name."""

from __future__ import annotations

from typing import cast

from torch import nn

from e2mc.errors import InputError
from e2mc.models.backbone import Backbone
from e2mc.models.small_resnet import SmallResNet


def _resnet50(in_channels: int) -> nn.Module:
    from e2mc.models.resnet50 import ResNet50

    return ResNet50(in_channels)


def _torchvision(name: str, in_channels: int) -> nn.Module:
    from e2mc.models.resnet50 import torchvision_backbone

    return torchvision_backbone(name, in_channels)


def _timm(name: str, in_channels: int) -> nn.Module:
    from e2mc.models.timm_backbone import TimmBackbone

    return TimmBackbone(name, in_channels)


BACKBONES = {"resnet-small": SmallResNet, "resnet50": _resnet50}
LIBRARIES = {"torchvision": _torchvision, "timm": _timm}


def create_backbone(name: str, in_channels: int = 3) -> Backbone:
    """A freshly initialised backbone.

    Every backbone maps images (N, in_channels, H, W) to pooled features (N, feature_dim), and has
    ``feature_map`` for the features before the pooling (N, feature_dim, h, w).

    Args:
        name: a key of ``BACKBONES``, or the name of another library's network behind
            "torchvision:" or "timm:".
        in_channels: channels of the images.

    Raises ValueError for a name that does not exist.
    """
    check_backbone(name)
    library, _, rest = name.partition(":")
    made = LIBRARIES[library](rest, in_channels) if rest else BACKBONES[name](in_channels)
    return cast(Backbone, made)


def check_backbone(name: str) -> None:
    """Raises ValueError unless the name is known; another library's names are its own matter."""
    library, _, rest = name.partition(":")
    if name not in BACKBONES and not (rest and library in LIBRARIES):
        known = ", ".join([*BACKBONES, *(f"{library}:<name>" for library in LIBRARIES)])
        raise InputError(f"backbone {name!r} does not exist, expected one of {known}")


__all__ = ["BACKBONES", "SmallResNet", "check_backbone", "create_backbone"]
