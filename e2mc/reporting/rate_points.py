"""Every point of the curves of differences against the learning rate of linear heads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from e2mc.errors import InputError
from e2mc.evaluation.probes import middle_of_best
from e2mc.evaluation.rates import KINDS
from e2mc.reporting.part import missing_key
from e2mc.reporting.results import run_of
from e2mc.reporting.statistics import (
    NOTHING,
    Difference,
    Evaluation,
    paired_difference,
    reference_arm,
)
from e2mc.study import Study

Place = tuple[str, str, str, str]  # base, arm, column, features


@dataclass(frozen=True)
class Point:
    """An arm and its reference at one rate, on one kind of features.

    Attributes:
        base, arm, reference, column, features: where it is.
        rate: of both arms; the median where each run has its own.
        own: whether each run has the rate that it chose on the validation images.
        fixed: whether it is the protocol's only rate, or that of the published protocol.
        share: of the choices on the validation images that fell on it; NaN without such images.
        mean, reference_mean: of their scores in percent.
        difference: paired by seeds; None where no pair is complete.
    """

    base: str
    arm: str
    reference: str
    column: str
    features: str
    rate: float
    own: bool
    fixed: bool
    share: float
    mean: float
    reference_mean: float
    difference: Difference | None

    @property
    def curve(self) -> Place:
        """Which curve it is a point of."""
        return self.base, self.arm, self.column, self.features

    @property
    def sign(self) -> int | None:
        """See ``Difference``."""
        return None if self.difference is None else self.difference.sign

    def flat(self) -> dict[str, object]:
        """Its row of the CSV."""
        apart = self.difference or NOTHING
        return {
            "base": self.base,
            "arm": self.arm,
            "reference": self.reference,
            "column": self.column,
            "features": self.features,
            "at": "chosen" if self.own else "rate",
            "learning_rate": f"{self.rate:g}",
            "fixed": self.fixed,
            "share_of_choices": self.share,
            "mean": self.mean,
            "reference_mean": self.reference_mean,
            "difference": apart.mean,
            "ci_low": apart.low,
            "ci_high": apart.high,
            "difference_n": apart.n,
            "within_noise": None if apart.sign is None else apart.sign == 0,
        }


@dataclass
class _Heads:
    """What the heads of one arm reach on one column and kind of features.

    Attributes:
        fixed: see ``Point``.
        at: rate -> run -> mean over label subsets, of runs whose heads have not diverged.
        own: the same at each head's own rate; empty without validation images.
        choices: these rates.
    """

    fixed: float
    at: dict[float, dict[Evaluation, float]]
    own: dict[Evaluation, float]
    choices: list[float]


def rate_points(study: Study, records: Iterable[dict[str, Any]]) -> list[Point]:
    """Every point of every curve of ``study.rates``, in its order, by rising rate.

    The last point of a curve is that of the rates which the runs chose on the validation images.

    Args:
        study: with ``rates``.
        records: result files of its columns, of any runs.

    Raises:
        ValueError: when the study has no ``rates``, or no result belongs to them.
    """
    shown = study.rates
    if shown is None:
        raise InputError(missing_key(study, "rates"))
    heads = _by_place(study, records)
    found: list[Point] = []
    for row in shown.rows:
        for arm in row.arms:
            reference = reference_arm(study, arm)
            if reference not in row.arms:
                continue
            for column in shown.columns:
                for kind in KINDS:
                    ours = heads.get((row.base, arm, column, kind))
                    others = heads.get((row.base, reference, column, kind))
                    if ours and others:
                        place = row.base, arm, reference, column, kind
                        found += _curve(place, ours, others)
    if not found:
        raise InputError("no result has heads of several rates to compare: run the study first")
    return found


def _curve(place: tuple[str, str, str, str, str], ours: _Heads, others: _Heads) -> Iterator[Point]:
    choices = ours.choices + others.choices
    for rate in ours.at:
        scores, reference = ours.at[rate], others.at.get(rate, {})
        yield Point(
            *place,
            rate=rate,
            own=False,
            fixed=rate == ours.fixed,
            share=choices.count(rate) / len(choices) if choices else math.nan,
            mean=_mean(scores),
            reference_mean=_mean(reference),
            difference=paired_difference(scores, reference),
        )
    if choices:
        yield Point(
            *place,
            rate=float(np.median(choices)),
            own=True,
            fixed=False,
            share=1.0,
            mean=_mean(ours.own),
            reference_mean=_mean(others.own),
            difference=paired_difference(ours.own, others.own),
        )


def _mean(scores: dict[Evaluation, float]) -> float:
    return float(np.mean([*scores.values()])) if scores else math.nan


def _by_place(study: Study, records: Iterable[dict[str, Any]]) -> dict[Place, _Heads]:
    found: dict[Place, _Heads] = {}
    for record in records:
        run = run_of(record)
        for seed in study.evaluation_seeds(run):
            details = record["details"]
            details = details.get("evaluation_seeds", {}).get(str(seed), details)
            evaluation = run.base_seed, run.continuation_seed, seed
            told = details["rates"]
            for kind, accuracies in told["features"].items():
                heads = found.setdefault(
                    (run.base, run.arm, record["paradigm"], kind),
                    _Heads(told["fixed"], {rate: {} for rate in told["learning_rates"]}, {}, []),
                )
                _add(heads, evaluation, told["learning_rates"], accuracies)
    return found


def _add(
    heads: _Heads, evaluation: Evaluation, rates: Sequence[float], accuracies: dict[str, Any]
) -> None:
    """The heads of one run: probe seed -> accuracy by rate, None for a head that has diverged."""
    test = [*accuracies["test_top1"].values()]
    for i, rate in enumerate(rates):
        values = [of_subset[i] for of_subset in test]
        if None not in values:
            heads.at[rate][evaluation] = float(np.mean(values))
    if "validation_top1" in accuracies:
        validation = accuracies["validation_top1"].values()
        known = [[-1.0 if value is None else value for value in row] for row in validation]
        chosen = [middle_of_best(torch.tensor(row)) for row in known]
        heads.choices += [rates[i] for i in chosen]
        values = [of_subset[i] for of_subset, i in zip(test, chosen, strict=True)]
        if None not in values:
            heads.own[evaluation] = float(np.mean(values))


def by_curve(points: Iterable[Point]) -> dict[Place, list[Point]]:
    """The points of each curve, in their order."""
    curves: dict[Place, list[Point]] = {}
    for point in points:
        curves.setdefault(point.curve, []).append(point)
    return curves
