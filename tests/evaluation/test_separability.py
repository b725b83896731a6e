from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2mc.evaluation.separability import (
    Separability,
    class_separation,
    cosine_histograms,
    cover_share,
    gardner_capacity,
    labeling_curve,
    largest_margin,
    separability,
)


def separable_by_linear_program(points: np.ndarray) -> bool:
    from scipy.optimize import linprog

    n, d = points.shape
    result = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.hstack((-points, np.ones((n, 1)))),
        b_ub=np.zeros(n),
        bounds=[(-1, 1)] * d + [(None, 1)],
        method="highs",
    )
    return -result.fun > 1e-8


@given(st.integers(1, 60), st.integers(1, 60))
def test_cover_share_is_the_exact_count(n, d):
    exact = 2 * sum(math.comb(n - 1, k) for k in range(d)) / 2**n
    assert cover_share(n, d) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("d", [1, 5, 128, 3000])
def test_cover_share_at_d_and_2d(d):
    assert cover_share(d, d) == 1
    assert cover_share(2 * d, d) == pytest.approx(0.5, abs=1e-9)
    assert cover_share(4 * d + 1, d) < 0.2


def test_cover_share_refuses_zero():
    with pytest.raises(ValueError, match="n = 0"):
        cover_share(0, 3)


@pytest.mark.parametrize(("margin", "capacity"), [(0.0, 2.0), (0.5, 0.96), (1.0, 0.52)])
def test_gardner_capacity_is_its_integral(margin, capacity):
    t = np.linspace(-margin, 12, 200_001)
    integrand = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) * (t + margin) ** 2
    assert gardner_capacity(margin) == pytest.approx(1 / np.trapezoid(integrand, t), rel=1e-6)
    assert gardner_capacity(margin) == pytest.approx(capacity, abs=0.01)


@pytest.mark.parametrize(("n", "d"), [(12, 8), (16, 8), (20, 8), (24, 12)])
def test_share_of_gaussian_points_follows_cover(n, d):
    random = np.random.default_rng(n)
    trials = 600
    found = sum(largest_margin(random.standard_normal((n, d))) > 0 for _ in range(trials))
    expected = cover_share(n, d)
    deviation = math.sqrt(trials * expected * (1 - expected))
    assert abs(found - trials * expected) < 4 * deviation


def test_every_labeling_counts_as_cover_says():
    n, d = 7, 3
    points = np.random.default_rng(1).standard_normal((n, d))
    signs = itertools.product((-1.0, 1.0), repeat=n)
    found = sum(largest_margin(points * np.array(sign)[:, None]) > 0 for sign in signs)
    assert found == pytest.approx(2**n * cover_share(n, d))


@pytest.mark.parametrize("spectrum", ["flat", "steep"])
def test_separability_agrees_with_a_linear_program(spectrum):
    random = np.random.default_rng(0)
    scale = np.ones(20) if spectrum == "flat" else np.geomspace(4, 0.04, 20)
    for n in (20, 36, 40, 44):
        for _ in range(15):
            points = random.standard_normal((n, 20)) * scale
            assert (largest_margin(points) > 0) == separable_by_linear_program(points)


def test_largest_margin_is_that_of_a_hard_margin_machine():
    from sklearn.svm import SVC

    random = np.random.default_rng(3)
    x = random.standard_normal((30, 40))
    y = random.choice([-1.0, 1.0], 30)
    # without a bias: every point and its mirror image with the other label
    machine = SVC(kernel="linear", C=1e8, tol=1e-8).fit(np.vstack((x, -x)), np.append(y, -y))
    expected = 1 / np.linalg.norm(machine.coef_)
    assert largest_margin(x * y[:, None]) == pytest.approx(expected, rel=1e-4)


def test_largest_margin_of_known_points():
    assert largest_margin(np.array([[3.0, 4.0]])) == pytest.approx(5)
    assert largest_margin(np.array([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(math.sqrt(0.5))
    assert largest_margin(np.array([[1.0, 0.0], [-1.0, 0.0]])) == 0
    assert largest_margin(np.zeros((1, 2))) == 0


def test_labeling_curve_of_gaussian_features_falls_at_gardners_capacity():
    features = torch.randn(400, 48, generator=torch.Generator().manual_seed(0))
    curve = labeling_curve(features, ratios=(0.5, 1.0, 1.25, 2.75), labelings=30, margin=0.5)
    assert curve["share"][:3] == [1, 1, 1]
    assert curve["share"][-1] < 0.2
    assert curve["share_with_margin"][0] == 1
    assert curve["share_with_margin"][2] < 0.2
    assert curve["gardner_capacity"] == pytest.approx(0.96, abs=0.01)


def test_labeling_curve_sees_steep_spectra_and_dead_dimensions():
    features = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    flat = labeling_curve(features, labelings=20)
    steep = labeling_curve(features * torch.logspace(0, -2, 32), labelings=20)
    assert sum(steep["share_with_margin"]) < sum(flat["share_with_margin"]) - 1
    dead = features.clone()
    dead[:, 16:] = 3.0
    assert sum(labeling_curve(dead, labelings=20)["share"]) < sum(flat["share"]) - 2


def test_labeling_curve_ignores_shift_scale_and_rotation():
    features = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)).double()
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    moved = 7 * features @ rotation + 3
    found, again = (labeling_curve(f, labelings=10) for f in (features, moved))
    assert found["share_with_margin"] == again["share_with_margin"]
    assert found["median_margin"] == pytest.approx(again["median_margin"], abs=2e-5)


def test_labeling_curve_reduces_wide_features():
    features = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    assert labeling_curve(features, ratios=(0.5,), labelings=2, max_dim=32)["d"] == 32


def test_labeling_curve_errors():
    with pytest.raises(ValueError, match="of 8 dimensions take 20 images at n / d = 2.5, found 10"):
        labeling_curve(torch.randn(10, 8), ratios=(1.0, 2.5), labelings=1)
    with pytest.raises(ValueError, match="all are equal"):
        labeling_curve(torch.ones(100, 8), labelings=1)


def test_class_separation_equals_the_sum_over_pairs():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, 5, generator=generator).double()
    labels = torch.arange(30) % 3
    distance = 1 - torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=2)
    blocks = torch.tensor(
        [[float(distance[labels == a][:, labels == b].mean()) for b in range(3)] for a in range(3)]
    )
    expected = 1 - float(blocks.diagonal().mean() / blocks.mean())
    assert class_separation(features, labels) == pytest.approx(expected, abs=1e-6)


def test_class_separation_of_extremes():
    points = torch.eye(4).repeat_interleave(5, dim=0)
    assert class_separation(points, torch.arange(20) // 5) == pytest.approx(1)
    assert class_separation(points, torch.arange(20) % 5) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="one direction"):
        class_separation(torch.ones(6, 3), torch.arange(6) % 2)


def test_cosine_auc_equals_sklearn_and_densities_integrate_to_one():
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 4
    features = torch.randn(80, 6, generator=generator) + torch.eye(6)[labels]
    cosine, auc = cosine_histograms(features, labels, 80, seed=0)
    first, second = torch.triu_indices(80, 80, 1)
    similarity = torch.nn.functional.cosine_similarity(features[first], features[second])
    assert auc == pytest.approx(
        roc_auc_score(labels[first] == labels[second], similarity), abs=1e-4
    )
    for kind in ("within", "between"):
        assert sum(cosine[kind]) * 0.02 == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="no pair of one class"):
        cosine_histograms(features[:4], labels[:4], 4, seed=0)


def test_separability_scores():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    features = torch.randn(300, 8, generator=generator) + 2 * torch.eye(8)[labels]
    scores, details = separability(features, labels, labelings=5)
    assert {s["metric"] for s in scores} == {"auc", "class_r2", "margin_capacity"}
    assert set(details) == {"cosine", "labelings", "rank"}
    assert (scores, details) == separability(features, labels, labelings=5)


def test_paradigm_scores_the_features_of_the_test_images(subject, monkeypatch):
    found = []

    def noted(features, labels):
        found.append((features, labels))
        return [], {"n": len(labels)}

    monkeypatch.setattr("e2mc.evaluation.separability.separability", noted)
    assert Separability().score(subject, "separability").details == {"n": 36}
    [(features, labels)] = found
    expected = subject.known("images", "test")
    assert torch.equal(features, expected[0]) and torch.equal(labels, expected[1])
    assert Separability().values() is None  # there is nothing to choose
