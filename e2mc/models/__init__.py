"""Backbones by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn

from e2mc.errors import ExpectedError, InputError, expect_known
from e2mc.models.backbone import Backbone
from e2mc.models.names import HUB, parse
from e2mc.models.probe import output_shape, reason
from e2mc.models.small_resnet import SmallResNet


def _resnet50(in_channels: int) -> nn.Module:
    from e2mc.models.resnet50 import ResNet50

    return ResNet50(in_channels)


def _resnet18_cifar(in_channels: int) -> nn.Module:
    from e2mc.models.resnet18_cifar import ResNet18CIFAR

    return ResNet18CIFAR(in_channels)


def _torchvision(name: str, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
    from e2mc.models.torchvision_backbone import torchvision_backbone

    return torchvision_backbone(name, in_channels, options)


def _timm(name: str, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
    from e2mc.models.timm_backbone import TimmBackbone

    return TimmBackbone(name, in_channels, options)


BACKBONES = {
    "resnet-small": SmallResNet,
    "resnet18-cifar": _resnet18_cifar,
    "resnet50": _resnet50,
}
LIBRARIES = {"torchvision": _torchvision, "timm": _timm}
SMALLEST_MAP = 2  # pixels on a side, of which spatial features are made


def create_backbone(name: str, in_channels: int = 3) -> Backbone:
    """A freshly initialised backbone.

    Every backbone maps images (N, in_channels, H, W) to pooled features (N, feature_dim), and has
    ``feature_map`` for the features before the pooling (N, feature_dim, h, w).

    Args:
        name: a key of ``BACKBONES``, or the name of another library's network behind
            "torchvision:", "timm:" or "hf-hub:", with its options, e.g.
            "timm:vit_small_patch14_dinov2.lvd142m?img_size=224&dynamic_img_size=true".
        in_channels: channels of the images.

    Raises ValueError for a name or an option that does not exist.
    """
    parts = parse(name, tuple(LIBRARIES))
    if parts.library is not None:
        made = LIBRARIES[parts.library](parts.network, in_channels, parts.options)
    elif name in BACKBONES:
        made = BACKBONES[name](in_channels)
    else:
        libraries = (f"{library}:<name>" for library in (*LIBRARIES, HUB))
        known = ", ".join([*BACKBONES, *libraries])
        raise InputError(f"backbone {name!r} does not exist, expected one of {known}")
    return cast(Backbone, made)


def check_backbone(
    name: str, sizes: Iterable[int] = (), map_sizes: Iterable[int] = (), in_channels: int = 3
) -> None:
    """Raises ValueError unless a backbone can be built and takes the images of a study.

    Nothing is computed, and no weights are made where the library allows that.

    Args:
        name: as for ``create_backbone``.
        sizes: sides of the square images that it must take, in pixels.
        map_sizes: sides of the images whose map of features is needed.
        in_channels: channels of the images.
    """
    if name in BACKBONES:
        return
    _check(name, tuple(sorted({*sizes})), tuple(sorted({*map_sizes})), in_channels)


@lru_cache
def _check(name: str, sizes: tuple[int, ...], maps: tuple[int, ...], in_channels: int) -> None:
    backbone = _without_weights(name, in_channels)
    for method, several in (("forward", sizes), ("feature_map", maps)):
        for size in several:
            try:
                shape = output_shape(backbone, in_channels, size, method)
            except ExpectedError:
                raise
            except Exception as error:
                raise InputError(
                    f"backbone {name!r} cannot take images of {size} x {size} pixels: "
                    f"{reason(error)}{_advice(backbone)}"
                ) from error
            if method == "feature_map" and min(shape[-2:]) < SMALLEST_MAP:
                raise InputError(
                    f"backbone {name!r} gives a map of {shape[-2]} x {shape[-1]} for images of "
                    f"{size} x {size} pixels, spatial features need {SMALLEST_MAP} x "
                    f"{SMALLEST_MAP}: use larger images"
                )


def feature_dim(name: str, in_channels: int = 3) -> int:
    """Width of a backbone's features; nothing is computed, see ``check_backbone``."""
    return _without_weights(name, in_channels).feature_dim


def _without_weights(name: str, in_channels: int) -> Backbone:
    """A backbone on the meta device, or a whole one where its library needs numbers to build it."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return create_backbone(name, in_channels)
        except Exception as error:
            if isinstance(error, ExpectedError) and not isinstance(error.__cause__, Exception):
                raise  # found without building anything
        return create_backbone(name, in_channels)


def _advice(backbone: Backbone) -> str:
    options = getattr(backbone, "size_options", [])
    if not options:
        return "; use larger views"
    return f"; use another size, or set its options ({', '.join(options)})"


def model_normalisation(
    name: str,
) -> tuple[tuple[float, ...], tuple[float, ...], int] | None:
    """How the images of a network's published weights were prepared.

    Args:
        name: as for ``create_backbone``.

    Returns:
        Mean and standard deviation per channel, of pixels in [0, 1], and the side of the images in
        pixels; None where its library does not say.

    Raises ValueError for a name that does not exist.
    """
    parts = parse(name, tuple(LIBRARIES))
    if parts.library == "torchvision":
        from e2mc.models.torchvision_backbone import torchvision_input

        return torchvision_input(parts.network)
    if parts.library == "timm":
        from e2mc.models.timm_backbone import TimmBackbone

        return cast(TimmBackbone, _without_weights(name, 3)).published_input()
    expect_known(name, BACKBONES, "backbone")
    return None


__all__ = [
    "BACKBONES",
    "SmallResNet",
    "check_backbone",
    "create_backbone",
    "feature_dim",
    "model_normalisation",
]
