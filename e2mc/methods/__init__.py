"""Base self-supervised methods, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from e2mc.errors import expect_known
from e2mc.methods.anchor import Anchor
from e2mc.methods.base import Method, MethodOutput
from e2mc.methods.byol import BYOL
from e2mc.methods.deepcluster import DeepCluster
from e2mc.methods.dino import DINO
from e2mc.methods.simclr import SimCLR
from e2mc.methods.simsiam import SimSiam
from e2mc.methods.swav import SwAV
from e2mc.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "vicreg": VICReg,
    "swav": SwAV,
    "simsiam": SimSiam,
    "simclr": SimCLR,
    "byol": BYOL,
    "dino": DINO,
    "deepcluster": DeepCluster,
    "anchor": Anchor,
}

__all__ = [
    "METHODS",
    "Method",
    "MethodOutput",
    "create_method",
    *(kind.__name__ for kind in METHODS.values()),
]


def create_method(name: str, backbone: nn.Module, **params: object) -> Method:
    """Create a method.

    Args:
        name: a key of `METHODS`.
        backbone: module from images to features with an attribute `feature_dim`.
        params: keyword arguments of the method's class.

    Raises:
        ValueError: if no method has this name.
    """
    expect_known(name, METHODS, "method")
    kind: Callable[..., Method] = METHODS[name]
    return kind(backbone, **params)
