from __future__ import annotations

import pytest
import torch

from e2mc.evaluation.metrics import (
    covariance_spectrum,
    effective_rank,
    power_law_exponent,
    rank_summary,
    score,
    summary_of_covariance,
    topk_accuracy,
)


def test_topk_accuracy_equals_sklearn():
    from sklearn.metrics import top_k_accuracy_score

    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(200, 7, generator=generator), torch.arange(200) % 7
    for k in (1, 3, 6):
        expected = 100 * top_k_accuracy_score(labels, scores, k=k)
        assert topk_accuracy(scores, labels, k) == pytest.approx(expected)
    assert topk_accuracy(scores, labels, 7) == 100
    with pytest.raises(ValueError, match="at least 8 classes, found 7"):
        topk_accuracy(scores, labels, 8)


def test_effective_rank_of_known_spectra():
    assert effective_rank(torch.tensor([5.0, 5.0, 5.0, 0.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([2.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(4)) == 0


def test_spectrum_is_that_of_the_covariance():
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 3
    expected = torch.linalg.eigvalsh(torch.cov(features.double().T)).flip(0)
    torch.testing.assert_close(covariance_spectrum(features), expected)


def test_rank_summary_counts_dead_dimensions():
    features = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    features[:, :2] = 1.0
    summary = rank_summary(features)
    assert summary["dead_dimensions"] == 2
    assert 3.8 < summary["effective_rank"] <= summary["rankme"] <= 4.000001


def test_rank_summary_of_the_covariance_is_that_of_the_features():
    features = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)).double()
    features[:, 2] = 1.0
    found = summary_of_covariance(torch.cov(features.T))
    assert found == pytest.approx(rank_summary(features)) and found["dead_dimensions"] == 1


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("count", [3, 12, 21, 22, 40, 128, 2048])
def test_exponent_of_an_exact_power_law(alpha, count):
    spectrum = 7.0 * torch.arange(1, count + 1, dtype=torch.float64) ** -alpha
    assert power_law_exponent(spectrum) == pytest.approx(alpha, abs=1e-9)
    assert power_law_exponent(1e-6 * spectrum) == pytest.approx(alpha, abs=1e-9)


def test_exponent_is_weighted_least_squares_from_the_11th_to_the_50th():
    import numpy as np

    generator = torch.Generator().manual_seed(0)
    spectrum = torch.rand(128, generator=generator).double().sort(descending=True).values
    ranks = np.arange(11, 51)
    # polyfit multiplies residuals by w, so that squares are weighted by 1 / rank
    slope, _ = np.polyfit(np.log(ranks), np.log(spectrum[10:50].numpy()), 1, w=ranks**-0.5)
    assert power_law_exponent(spectrum) == pytest.approx(-slope)
    changed = spectrum.clone()
    changed[:10] *= 100
    changed[50:] /= 100
    assert power_law_exponent(changed) == pytest.approx(-slope)


def test_exponent_leaves_out_eigenvalues_that_are_nothing():
    power = torch.arange(1, 31, dtype=torch.float64) ** -1.5
    padded = torch.cat((power, torch.full((98,), 1e-20, dtype=torch.float64)))
    assert power_law_exponent(padded) == pytest.approx(1.5)
    assert power_law_exponent(torch.tensor([3.0, 0.0, 0.0])) == 0
    assert power_law_exponent(torch.zeros(5)) == 0


def test_score_names_all_that_tells_it_from_others():
    assert score("top1", 1.5, split="validation", selection="best", probe_seed=3) == {
        "metric": "top1",
        "value": 1.5,
        "features": "raw",
        "selection": "best",
        "probe_seed": 3,
        "evaluation_seed": 0,
        "split": "validation",
    }
