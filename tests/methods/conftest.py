"""A backbone small enough for a test, and how closely goldens must be met."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


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


@pytest.fixture
def same_value() -> Callable[[Tensor, Tensor], None]:
    """Assert equality to 1e-9 relative."""
    return lambda a, b: torch.testing.assert_close(a, b, rtol=1e-9, atol=0, check_dtype=False)


@pytest.fixture
def same_gradient() -> Callable[[Tensor, Tensor], None]:
    """Assert equality to 1e-8 of the largest entry."""

    def check(gradient: Tensor, expected: Tensor) -> None:
        tolerance = 1e-8 * float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=0, atol=tolerance)

    return check
