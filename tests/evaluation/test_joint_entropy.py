"""Estimates of joint entropies against values that are known."""

import math

import pytest
import torch
from scipy.stats import gaussian_kde, multivariate_normal
from sklearn.neighbors import NearestNeighbors

from e2mc.evaluation.joint_entropy import (
    gaussian_entropy,
    kernel_density_entropy,
    nearest_neighbour_entropy,
    squared_distances,
)


def points(count=300, dimensions=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dimensions", [1, 3, 40])
def test_distances_are_those_of_scikit_learn(dimensions):
    x = points(dimensions=dimensions)
    found = squared_distances(x)
    nearest, _ = NearestNeighbors(n_neighbors=1).fit(x.numpy()).kneighbors()
    assert found.amin(dim=1).sqrt().numpy() == pytest.approx(nearest[:, 0], rel=1e-6)
    assert found.diagonal().isinf().all() and torch.allclose(found, found.T)


def test_two_points_by_hand():
    # digamma(2) - digamma(1) = 1; the ball of one dimension is 2 long; both neighbours at 3
    squared = squared_distances(torch.tensor([[0.0], [3.0]], dtype=torch.float64))
    assert nearest_neighbour_entropy(squared, 1) == pytest.approx(1 + math.log(2) + math.log(3))


def test_equal_points_have_no_entropy():
    squared = squared_distances(torch.zeros(4, 2, dtype=torch.float64))
    assert nearest_neighbour_entropy(squared, 2) == -math.inf


@pytest.mark.parametrize("dimensions", [1, 2])
def test_kernels_are_those_of_scipy(dimensions):
    x = points(80, dimensions).numpy()
    width = 1.3 * len(x) ** (-1 / (dimensions + 4))
    logs = []
    for i in range(len(x)):
        others = [*range(i), *range(i + 1, len(x))]
        sums = sum(multivariate_normal.pdf(x[i], x[j], width**2) for j in others)
        logs.append(math.log(sums / len(others)))
    squared = squared_distances(torch.from_numpy(x))
    found = kernel_density_entropy(squared, dimensions, 1.3)
    assert found == pytest.approx(-sum(logs) / len(logs), rel=1e-9)
    assert gaussian_kde(x.T).factor == pytest.approx(width / 1.3)  # Scott's rule


def test_normal_law_is_estimated_by_all():
    covariance = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
    x = points(4000, 2) @ torch.linalg.cholesky(covariance).T
    known = multivariate_normal(cov=covariance.numpy()).entropy()
    squared = squared_distances(x)
    assert gaussian_entropy(x) == pytest.approx(known, abs=0.04)
    assert nearest_neighbour_entropy(squared, 2) == pytest.approx(known, abs=0.06)
    assert kernel_density_entropy(squared, 2, 1.2) == pytest.approx(known, abs=0.25)


def test_gaussian_entropy_needs_more_points_than_dimensions():
    assert math.isnan(gaussian_entropy(points(5, 5)))
    assert math.isfinite(gaussian_entropy(points(6, 5)))
