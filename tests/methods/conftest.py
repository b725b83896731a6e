"""Backbones small enough for a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


class TinyBackbone(nn.Sequential):
    """One convolution with BatchNorm, pooled to 8 features."""

    feature_dim = 8

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return TinyBackbone()


@pytest.fixture
def features() -> Callable[[int], nn.Module]:
    """Make a backbone that passes features of a given width through unchanged."""

    def identity(width: int) -> nn.Module:
        module = nn.Identity()
        module.feature_dim = width
        return module

    return identity
