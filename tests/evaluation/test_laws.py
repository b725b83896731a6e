"""Laws whose entropy is known, against scipy's and against their own samples."""

import numpy as np
import pytest
from scipy import integrate, stats

from e2mc.evaluation.laws import LAWS, normal_chain, sample, total_correlation

Z = np.linspace(-4, 4, 41)


@pytest.mark.parametrize(
    ("name", "law"),
    [("normal", stats.norm), ("uniform", stats.uniform), ("Laplace", stats.laplace)],
)
def test_law_is_that_of_scipy(name, law):
    assert LAWS[name].of_normal(Z) == pytest.approx(law.ppf(stats.norm.cdf(Z)), abs=1e-9)
    assert LAWS[name].entropy == pytest.approx(law.entropy())


def test_mixture_has_its_distribution_function_and_entropy():
    x = LAWS["mixture"].of_normal(Z)
    below = (stats.norm.cdf(x, -2, 0.5) + stats.norm.cdf(x, 2, 0.5)) / 2
    assert below == pytest.approx(stats.norm.cdf(Z), abs=1e-7)
    # two laws that hardly meet: one bit more than either of them
    assert LAWS["mixture"].entropy == pytest.approx(
        stats.norm.entropy(0, 0.5) + np.log(2), abs=1e-3
    )
    assert LAWS["mixture"].entropy == pytest.approx(2 * integrate.quad(surprise, 0, 9)[0], abs=1e-9)


def surprise(x):
    """Density of the mixture times minus its logarithm."""
    density = (stats.norm.pdf(x, -2, 0.5) + stats.norm.pdf(x, 2, 0.5)) / 2
    return -density * np.log(density)


def test_chain_has_its_correlations_and_its_seed():
    z = normal_chain(20_000, 4, 0.9, 0)
    wanted = 0.9 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    assert np.corrcoef(z.T) == pytest.approx(wanted, abs=0.02)
    assert z.std(axis=0) == pytest.approx(np.ones(4), abs=0.02)
    assert np.array_equal(z, normal_chain(20_000, 4, 0.9, 0))
    assert not np.array_equal(z, normal_chain(20_000, 4, 0.9, 1))


def test_total_correlation_is_what_the_determinant_says():
    correlations = 0.9 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    known = -np.linalg.slogdet(correlations)[1] / 2
    assert total_correlation(5, 0.9) == pytest.approx(known)
    assert total_correlation(5, 0.0) == 0 == total_correlation(1, 0.9)


def test_correlated_normal_sample_has_the_joint_entropy_that_is_said():
    correlations = 0.9 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    joint = stats.multivariate_normal(cov=correlations).entropy()
    assert 3 * LAWS["normal"].entropy - total_correlation(3, 0.9) == pytest.approx(joint)
    assert sample(LAWS["uniform"], normal_chain(10, 3, 0.9, 0)).shape == (10, 3)
