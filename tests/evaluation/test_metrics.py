from __future__ import annotations

import pytest
import torch

from e2mc.evaluation.metrics import (
    covariance_spectrum,
    effective_rank,
    rank_summary,
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
