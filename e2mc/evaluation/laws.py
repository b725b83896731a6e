"""Laws of d coordinates whose joint and marginal entropies are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor


@dataclass(frozen=True)
class Law:
    """A law of one coordinate, as a function of a standard normal number.

    Attributes:
        of_normal: rising; of standard normal numbers it makes numbers of this law, float64.
        entropy: differential, in nats.
    """

    of_normal: Callable[[np.ndarray], np.ndarray]
    entropy: float


def _laplace(z: np.ndarray) -> np.ndarray:
    return -np.sign(z) * (math.log(2) + special.log_ndtr(-np.abs(z)))


APART, WIDE = 2.0, 0.5  # the two normal laws of the mixture: means -2 and 2, deviation 1/2


def _mixture(z: np.ndarray) -> np.ndarray:
    # the quantile function, from the distribution function on a grid; symmetric, so that the
    # upper half is as precise as the lower
    x = np.linspace(-APART - 8 * WIDE, 0, 100_001)
    below = (special.ndtr((x + APART) / WIDE) + special.ndtr((x - APART) / WIDE)) / 2
    return -np.sign(z) * np.interp(-np.abs(z), special.ndtri(below), x)


def _mixture_entropy() -> float:
    # a sum is exact for what is smooth and 0 at both ends; scipy.integrate takes long to import
    x, step = np.linspace(-APART - 15 * WIDE, APART + 15 * WIDE, 10_001, retstep=True)
    bells = np.exp(-(((x - APART) / WIDE) ** 2) / 2) + np.exp(-(((x + APART) / WIDE) ** 2) / 2)
    density = bells / (2 * WIDE * math.sqrt(2 * math.pi))
    return float(-(density * np.log(density)).sum() * step)


LAWS = {
    "normal": Law(lambda z: z, math.log(2 * math.pi * math.e) / 2),
    "uniform": Law(special.ndtr, 0.0),
    "Laplace": Law(_laplace, 1 + math.log(2)),
    "mixture": Law(_mixture, _mixture_entropy()),
}


def normal_chain(count: int, dimensions: int, correlation: float, seed: int) -> np.ndarray:
    """Standard normal coordinates (N, d), each correlated with the one before it.

    Coordinates i and j have the correlation ``correlation ** |i - j|``.
    """
    z = np.random.default_rng([seed, count, dimensions]).standard_normal((count, dimensions))
    rest = math.sqrt(1 - correlation**2)
    for i in range(1, dimensions if correlation else 0):
        z[:, i] = correlation * z[:, i - 1] + rest * z[:, i]
    return z


def sample(law: Law, z: np.ndarray) -> Tensor:
    """Points (N, d) whose coordinates have the law and the dependence of ``normal_chain``."""
    return torch.from_numpy(law.of_normal(z))


def total_correlation(dimensions: int, correlation: float) -> float:
    """How far the joint entropy of such a sample is below the sum of its marginal ones, in nats.

    That of ``normal_chain``, -1/2 log det of its correlations: a rising function of each coordinate
    leaves it as it is.
    """
    return -(dimensions - 1) / 2 * math.log1p(-(correlation**2))
