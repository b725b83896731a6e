"""Estimates of the joint differential entropy of all coordinates together, from samples.

They are what E2MC does without: see docs/estimators.md for how they fail as dimensions are added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def squared_distances(x: Tensor) -> Tensor:
    """Between all pairs of points, (N, d) float64 -> (N, N), infinite from a point to itself."""
    squares = x.square().sum(dim=1)
    found = torch.addmm(squares, x, x.T, alpha=-2).add_(squares.unsqueeze(1)).clamp_(min=0)
    return found.fill_diagonal_(math.inf)


def nearest_neighbour_entropy(squared: Tensor, dimensions: int) -> float:
    """From the distance r_i of each of N points to its nearest neighbour, in nats.

        H = digamma(N) - digamma(1) + log V_d + d/N sum_i log r_i

    with the volume V_d of the unit ball.

    Args:
        squared: ``squared_distances`` of the points.
        dimensions: d.

    Returns:
        The entropy; -inf where two points are equal.

    Source: Kozachenko and Leonenko, 1987.
    """
    count = torch.tensor(float(len(squared)), dtype=squared.dtype)
    ball = dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2 + 1)
    constant = float(torch.digamma(count) - torch.digamma(torch.ones_like(count))) + ball
    return constant + dimensions / 2 * float(squared.amin(dim=1).log().mean())


def kernel_density_entropy(squared: Tensor, dimensions: int, deviation: float) -> float:
    """Minus the mean log density at each of N points, by normal kernels at all others, in nats.

    The kernels' standard deviation is ``deviation`` times N^(-1 / (d + 4)), Scott's rule.

    Args:
        squared: ``squared_distances`` of the points.
        dimensions: d.
        deviation: standard deviation of a coordinate, one for all.

    Source: Ahmad and Lin, 1976, leaving out the point itself; Scott, 1992, for the width.
    """
    count = len(squared)
    variance = (deviation * count ** (-1 / (dimensions + 4))) ** 2
    sums = (squared * (-0.5 / variance)).logsumexp(dim=1)
    constant = math.log(count - 1) + dimensions / 2 * math.log(2 * math.pi * variance)
    return constant - float(sums.mean())


def gaussian_entropy(x: Tensor) -> float:
    """Of the normal law with the covariance of the points (N, d), in nats.

        H = d/2 log(2 pi e) + 1/2 log det cov

    An upper bound for any other law, were the covariance exact. NaN for N <= d, where the
    covariance of the sample has no inverse.
    """
    count, dimensions = x.shape
    if count <= dimensions:
        return math.nan
    logdet = torch.linalg.slogdet(torch.cov(x.T).view(dimensions, dimensions)).logabsdet
    return dimensions / 2 * math.log(2 * math.pi * math.e) + float(logdet) / 2
