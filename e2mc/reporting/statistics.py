"""Means over seeds, and paired differences with intervals.

The headline score of a run is the mean over its probe seeds (label subsets) and its evaluation
seeds, of which a base may have several, on raw or whitened features, on the test split, after the
last epoch or, where the study says so, the best. Runs are compared in pairs that share the base
seed and the continuation seed, so that what the seeds do to both cancels; a base with several
evaluation seeds is compared under that of the continued run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtrc, stdtrit  # scipy.stats takes most of a second to import

from e2mc.study import BASE_ARM, Study

LEVEL = 0.95

Seeds = tuple[int, int | None]
Evaluation = tuple[int, int | None, int]  # base, continuation and evaluation seed
Scores = dict[tuple[str, str, str, str], dict[Seeds, float]]
SeededScores = dict[tuple[str, str, str, str], dict[Evaluation, float]]


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences and its interval.

    Attributes:
        mean: of the differences.
        low, high: ends of the interval; NaN when there is one pair only.
        n: number of independent values, which is base seeds if there are several, else
            continuation seeds.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int | None:
        """1 above noise, -1 below, 0 within noise, None when one pair cannot tell."""
        if math.isnan(self.low):
            return None
        return int(self.low > 0) - int(self.high < 0)


NOTHING = Difference(math.nan, math.nan, math.nan, 0)  # where no pair is complete


def headline_scores(study: Study, results: pd.DataFrame, split: str = "test") -> Scores:
    """(base, arm, paradigm, features) -> (base seed, continuation seed) -> headline score."""
    scores: Scores = {}
    for key, evaluations in seeded_scores(study, results, split).items():
        runs: dict[Seeds, list[float]] = {}
        for (base_seed, seed, _), value in evaluations.items():
            runs.setdefault((base_seed, seed), []).append(value)
        scores[key] = {run: float(np.mean(values)) for run, values in runs.items()}
    return scores


def seeded_scores(study: Study, results: pd.DataFrame, split: str = "test") -> SeededScores:
    """(base, arm, paradigm, features) -> base, continuation and evaluation seed -> score.

    Only the metric of each paradigm counts, after the last epoch or, where the study says so and
    the paradigm knows it, after the best; of a base only the evaluation seeds of the study, where a
    result has more.
    """
    paradigms = study.paradigms.items()
    epoch = {k: study.reported_epoch if p.selects_epochs else "last" for k, p in paradigms}
    metric = results["paradigm"].map({k: p.metric for k, p in paradigms})
    draws = results["paradigm"].isin([k for k, p in paradigms if p.draws])
    others = (results["arm"] == BASE_ARM) & ~results["evaluation_seed"].isin(study.seeds.evaluation)
    kept = results[
        (results["study"] == study.folder)
        & (results["metric"] == metric)
        & (results["selection"] == results["paradigm"].map(epoch))
        & (results["split"] == split)
        & ~(draws & others)
    ]
    keys = ["base", "arm", "paradigm", "features"]
    keys += ["base_seed", "continuation_seed", "evaluation_seed"]
    scores: SeededScores = {}
    means = kept.groupby(keys, dropna=False)["value"].mean()
    for key, value in zip(means.index, means, strict=True):
        base, arm, paradigm, features, base_seed, seed, evaluation_seed = key
        run = int(base_seed), None if pd.isna(seed) else int(seed)
        evaluation = (*run, int(evaluation_seed))
        scores.setdefault((base, arm, paradigm, features), {})[evaluation] = float(value)
    return scores


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and standard deviation with divisor n - 1; NaN where there are too few values."""
    values = list(values)
    mean = float(np.mean(values)) if values else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % t interval of a mean: mean -+ t(n - 1) std / sqrt(n); NaN for one value."""
    mean, std = spread(values)
    half = stdtrit(max(len(values) - 1, 1), (1 + LEVEL) / 2) * std / math.sqrt(len(values))
    return mean - half, mean + half


def paired_difference(
    scores: Mapping[Any, float], reference: Mapping[Any, float]
) -> Difference | None:
    """Scores of an arm minus those of its reference, by ``Seeds`` or ``Evaluation``, in pairs.

    A reference without continuation seeds (the base) is subtracted from every run of its base seed,
    evaluated under the run's evaluation seed where the scores tell.
    With several base seeds the differences are first averaged within each, because runs of one base
    are not independent; the interval is then over base seeds.

    Returns:
        None when no pair shares its seeds.
    """
    by_base: dict[int, list[float]] = {}
    for seeds, value in sorted(scores.items()):
        of_base = (seeds[0], None, *seeds[2:])
        other = reference.get(seeds, reference.get(of_base))
        if other is not None:
            by_base.setdefault(seeds[0], []).append(value - other)
    if not by_base:
        return None
    values = next(iter(by_base.values()))
    if len(by_base) > 1:
        values = [float(np.mean(differences)) for differences in by_base.values()]
    return Difference(float(np.mean(values)), *interval(values), len(values))


def reference_arm(study: Study, arm: str) -> str:
    """What an arm is compared with; empty for the base, which is compared with nothing."""
    if arm == BASE_ARM:
        return ""
    reference = study.arms[arm].reference
    return BASE_ARM if reference == arm else reference


def more_than_chance(count: int, total: int) -> bool:
    """Whether ``count`` of ``total`` intervals on one side of 0 are more than chance explains.

    Without any effect each interval lies above 0 with probability (1 - LEVEL) / 2; the count is
    called more when a binomial count reaches it in less than 5 % of cases.
    """
    return bool(bdtrc(count - 1, total, (1 - LEVEL) / 2) < 0.05)
