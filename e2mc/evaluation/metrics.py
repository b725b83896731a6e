"""Numbers that describe scores and features."""

from __future__ import annotations

import torch
from torch import Tensor

from e2mc.errors import InputError


def topk_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percentage of rows whose label is among the k largest scores.

    Args:
        scores: (N, K).
        labels: int64 (N,).
        k: 1 <= k <= K.
    """
    if not 1 <= k <= scores.shape[1]:
        raise InputError(f"top-{k} accuracy needs at least {k} classes, found {scores.shape[1]}")
    best = scores.topk(k, dim=1).indices
    return 100 * float((best == labels.unsqueeze(1)).any(dim=1).double().mean())


def covariance_spectrum(features: Tensor) -> Tensor:
    """Eigenvalues of the covariance of features (N, D), N >= 2: float64 (D,), falling."""
    values = features.double()
    centred = values - values.mean(dim=0)
    return _eigenvalues(centred.T @ centred / (len(values) - 1))


def _eigenvalues(covariance: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0)


def effective_rank(spectrum: Tensor) -> float:
    """exp of the entropy of the normalised spectrum: 1 (one direction) to D (all alike).

    Args:
        spectrum: (D,), non-negative: eigenvalues of the covariance, or singular values.

    Source: Roy and Vetterli 2007; with the singular values of the features it is RankMe
    (Garrido et al. 2023).
    """
    total = float(spectrum.sum())
    if not total > 0:
        return 0.0
    p = spectrum.double() / total
    return float(torch.special.entr(p).sum().exp())


def rank_summary(features: Tensor) -> dict[str, float]:
    """Effective rank of features (N, D) by eigenvalues and by singular values (centred RankMe)."""
    dead = float((features.var(dim=0) == 0).sum())
    return _rank_summary(covariance_spectrum(features), dead)


def summary_of_covariance(covariance: Tensor) -> dict[str, float]:
    """``rank_summary`` from the covariance (D, D) alone, in float64."""
    variances = covariance.diagonal()
    # the rounding of sums of squares leaves a constant feature a variance
    dead = float((variances <= 1e-12 * variances.max()).sum())
    return _rank_summary(_eigenvalues(covariance), dead)


def _rank_summary(spectrum: Tensor, dead: float) -> dict[str, float]:
    return {
        "effective_rank": effective_rank(spectrum),
        "rankme": effective_rank(spectrum.sqrt()),
        "dead_dimensions": dead,
    }


def score(
    metric: str,
    value: float,
    *,
    split: str = "test",
    selection: str = "last",
    features: str = "raw",
    probe_seed: int = 0,
) -> dict[str, str | float | int]:
    """One entry of a result's list of scores."""
    return {
        "metric": metric,
        "value": value,
        "features": features,
        "selection": selection,
        "probe_seed": probe_seed,
        "split": split,
    }
