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


def power_law_exponent(spectrum: Tensor) -> float:
    """The decay alpha of a spectrum l_j ~ j^-alpha: near 1 is balanced, above it few directions.

    Weighted least squares of log l_j against log j with weights 1 / j, from the 11th eigenvalue to
    the 50th; from the first where there are less than 22 that are not 0.

    Args:
        spectrum: (D,), eigenvalues of the covariance of features, falling.

    Returns:
        0 where fewer than two eigenvalues are positive.

    Source: alpha-ReQ (Agrawal et al. 2022), with the fit of Stringer et al. 2019.
    """
    positive = spectrum.double()[spectrum > 1e-12 * spectrum.max()]
    first, last = (10, 50) if len(positive) >= 22 else (0, len(positive))
    values = positive[first:last].log()
    if len(values) < 2:
        return 0.0
    ranks = torch.arange(first + 1, first + 1 + len(values), dtype=torch.float64)
    weights = 1 / ranks / (1 / ranks).sum()
    x = ranks.log() - weights @ ranks.log()
    return -float((weights * x) @ values / ((weights * x) @ x))


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
    evaluation_seed: int = 0,
) -> dict[str, str | float | int]:
    """One entry of a result's list of scores."""
    return {
        "metric": metric,
        "value": value,
        "features": features,
        "selection": selection,
        "probe_seed": probe_seed,
        "evaluation_seed": evaluation_seed,
        "split": split,
    }
