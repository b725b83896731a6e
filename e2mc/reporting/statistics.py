"""From scores to cells: means over seeds, and paired differences with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from e2mc.study import BASE_ARM, Study

METRICS = {"linear": "top1", "finetune": "top1", "svm": "map"}


@dataclass(frozen=True)
class Difference:
    """A paired difference of an arm to its reference, in points.

    Attributes:
        mean: over the seeds.
        low, high: the 95 % interval of the mean (Student's t); NaN with one seed.
        n: pairs.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def mark(self) -> str:
        """▲ or ▼ where the interval excludes 0, ≈ where it does not, ? where there is none."""
        if math.isnan(self.low):
            return "?"
        return "▲" if self.low > 0 else "▼" if self.high < 0 else "≈"


@dataclass(frozen=True)
class Cell:
    """One arm under one paradigm: mean and standard deviation over runs (NaN with one run)."""

    mean: float
    std: float
    n: int
    difference: Difference | None


def run_scores(
    study: Study, results: pd.DataFrame, paradigm: str, features: str = "raw"
) -> pd.DataFrame:
    """The headline score of every run: test split, last epoch, mean over label subsets.

    Returns:
        Columns base, arm, base_seed, continuation_seed, value.
    """
    chosen = results[
        (results["paradigm"] == paradigm)
        & (results["metric"] == METRICS[study.paradigms[paradigm].kind])
        & (results["features"] == features)
        & (results["selection"] == "last")
        & (results["split"] == "test")
    ]
    keys = ["base", "arm", "base_seed", "continuation_seed"]
    return chosen.groupby(keys, dropna=False, as_index=False)["value"].mean()


def cell(study: Study, scores: pd.DataFrame, base: str, arm: str) -> Cell | None:
    """The cell of one arm of one base, or None when nothing was run.

    Args:
        scores: what ``run_scores`` returned.
    """
    mine = scores[(scores["base"] == base) & (scores["arm"] == arm)]
    if mine.empty:
        return None
    values = mine["value"]
    return Cell(
        values.mean(),
        values.std() if len(values) > 1 else math.nan,
        len(values),
        _difference(study, scores, base, arm),
    )


def reference_of(study: Study, arm: str) -> str | None:
    """What an arm is compared with: *continued* with the base, a criterion with *continued*."""
    if arm == BASE_ARM:
        return None
    reference = study.arms[arm].reference
    return BASE_ARM if reference == arm else reference


def paired_difference(differences: pd.Series) -> Difference:
    """Mean and 95 % interval of one difference per seed."""
    from scipy import stats

    n = len(differences)
    mean = float(differences.mean())
    if n < 2:
        return Difference(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf(0.975, n - 1) * differences.std() / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)


def _difference(study: Study, scores: pd.DataFrame, base: str, arm: str) -> Difference | None:
    reference = reference_of(study, arm)
    if reference is None:
        return None
    pairs_by = ["base_seed"] if reference == BASE_ARM else ["base_seed", "continuation_seed"]
    mine, other = (
        scores[(scores["base"] == base) & (scores["arm"] == name)] for name in (arm, reference)
    )
    paired = mine.merge(other, on=pairs_by, suffixes=("", "_reference"))
    if paired.empty:
        return None
    return paired_difference(paired["value"] - paired["value_reference"])
