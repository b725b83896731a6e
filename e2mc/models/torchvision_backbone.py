"""Convolutional networks of torchvision without their classifiers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional as F

from e2mc.errors import InputError
from e2mc.models.library import build
from e2mc.models.probe import output_shape

SIZE = 224  # pixels, at which the width is measured; it does not depend on them
# their auxiliary classifiers are no part of the way to the features
AUXILIARY = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
RESERVED = {
    "weights": "the weights are those of the checkpoint",
    "progress": "nothing is downloaded",
    "num_classes": "the classifier is left out",
    "aux_logits": "classifiers are left out",
    "init_weights": "fresh weights are always initialised",
    "transform_input": "give the normalisation in the study",
}


class PooledNetwork(nn.Sequential):
    """A network of torchvision up to its global average pooling, with torchvision's own keys.

    Args:
        network: a model whose children up to the one named ``avgpool`` are applied in their order
            (ResNet, ResNeXt, RegNet, EfficientNet, MobileNetV3, ConvNeXt, Swin, VGG, Inception).
        in_channels: channels of the images.

    Attributes:
        feature_dim: width of the pooled features, which is measured.

    Shape: (N, C, H, W) -> (N, feature_dim).

    Raises:
        ValueError: if the network has no global average pooling of that name.
    """

    def __init__(self, network: nn.Module, in_channels: int = 3) -> None:
        children = dict(network.named_children())
        if "avgpool" not in children:
            raise InputError(
                f"torchvision's {type(network).__name__} has no global average pooling: choose a "
                "ResNet, ResNeXt, RegNet, EfficientNet or MobileNetV3, or one of timm's models"
            )
        names = list(children)
        split = names.index("avgpool")
        super().__init__(OrderedDict((name, children[name]) for name in names[:split]))
        self.feature_dim = output_shape(self, in_channels, SIZE)[1]

    def feature_map(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, feature_dim, h, w), before the pooling."""
        return super().forward(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.feature_map(images), 1).flatten(1)


def torchvision_backbone(name: str, in_channels: int, options: Mapping[str, Any]) -> PooledNetwork:
    """A network of torchvision by its name, with fresh weights.

    Args:
        name: one of torchvision's networks that classify images.
        in_channels: channels of the images; 3.
        options: what its builder is given, e.g. ``{"zero_init_residual": True}``.

    Raises:
        ValueError: if there is no such network or option, it has no global average pooling, or
            ``in_channels`` is not 3.
    """
    _expect_classifier(name)
    if in_channels != 3:
        raise InputError(f"torchvision's {name} takes images of 3 channels, not {in_channels}")
    make = partial(torchvision.models.get_model, name, weights=None, **AUXILIARY.get(name, {}))
    return PooledNetwork(build(f"torchvision's {name}", make, options, RESERVED))


def torchvision_input(name: str) -> tuple[tuple[float, ...], tuple[float, ...], int] | None:
    """Mean, deviation and size of the images for torchvision's best weights of a network."""
    _expect_classifier(name)
    try:
        transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    except (ValueError, AttributeError):
        return None
    return tuple(transform.mean), tuple(transform.std), transform.crop_size[0]


def _expect_classifier(name: str) -> None:
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise InputError(
            f"torchvision has no model {name!r} that classifies images: see "
            "torchvision.models.list_models(module=torchvision.models)"
        )
