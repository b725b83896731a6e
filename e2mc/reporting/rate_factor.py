"""Is a change of the probe's learning rate enough to explain a difference between two arms?

If all that a criterion does is to let a head learn as if its rate were f times another, then the
arm's accuracy at rate r is the reference's at f r, whatever r. The factor f is fitted on half of
the label subsets and judged on the others: what is left of the difference at the fixed rate?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2mc.reporting.rate_points import Place
from e2mc.reporting.results import run_of
from e2mc.reporting.statistics import Difference, Seeds, paired_difference, reference_arm
from e2mc.study import Study

FACTORS = np.geomspace(0.25, 4.0, 161)
SHARED = 3  # rates at which both curves must be known for a factor to be fitted

PLACE = ("base", "arm", "column", "features")
FACTOR_COLUMNS = (
    *PLACE,
    "reference",
    "fixed_rate",
    "factor",
    "factor_low",
    "factor_high",
    "difference",
    "ci_low",
    "ci_high",
    "left",
    "left_ci_low",
    "left_ci_high",
    "n",
)

Curve = tuple[np.ndarray, np.ndarray]  # rates rising, accuracy in percent


@dataclass(frozen=True)
class Explained:
    """One curve of differences, and what is left of it once the reference's rate is changed.

    Attributes:
        place: base, arm, column, features.
        reference: what the arm is compared with.
        rate: the fixed rate, at which both are judged.
        factors: of each pair of runs, fitted on every second label subset.
        difference: arm less reference at the fixed rate, on the other label subsets.
        left: arm less reference at the factor times the fixed rate, on these.
    """

    place: Place
    reference: str
    rate: float
    factors: dict[Seeds, float]
    difference: Difference
    left: Difference

    def flat(self) -> dict[str, Any]:
        """Its row of the CSV."""
        factors = sorted(self.factors.values())
        return {
            **dict(zip(PLACE, self.place, strict=True)),
            "reference": self.reference,
            "fixed_rate": f"{self.rate:g}",
            "factor": float(np.median(factors)),
            "factor_low": factors[0],
            "factor_high": factors[-1],
            "difference": self.difference.mean,
            "ci_low": self.difference.low,
            "ci_high": self.difference.high,
            "left": self.left.mean,
            "left_ci_low": self.left.low,
            "left_ci_high": self.left.high,
            "n": self.difference.n,
        }


def explained(study: Study, records: Iterable[Mapping[str, Any]]) -> list[Explained]:
    """Of each arm of ``study.rates``, column and kind of features with two label subsets or more.

    Args:
        study: with ``rates``.
        records: result files of its columns, of any runs.
    """
    found: dict[tuple[str, str, str], dict[Seeds, Mapping[str, Any]]] = {}
    for record in records:
        run = run_of(record)
        by_run = found.setdefault((run.base, run.arm, record["paradigm"]), {})
        by_run[run.base_seed, run.continuation_seed] = record["details"]["rates"]
    return [one for key in found for one in _of_arm(study, key, found)]


def _of_arm(
    study: Study,
    key: tuple[str, str, str],
    found: Mapping[tuple[str, str, str], Mapping[Seeds, Mapping[str, Any]]],
) -> Iterator[Explained]:
    base, arm, column = key
    reference = reference_arm(study, arm)
    before = found.get((base, reference, column), {})
    pairs = {seeds: (told, before[seeds]) for seeds, told in found[key].items() if seeds in before}
    kinds = next(iter(found[key].values()))["features"]
    for kind in kinds:
        factors, ours, same, moved = {}, {}, {}, {}
        for seeds, (told, other) in pairs.items():
            fits = [_curve(one, kind, 0) for one in (told, other)]
            mine, reached = (_curve(one, kind, 1) for one in (told, other))
            factor = fitted_factor(*fits)
            if factor is None or mine is None or reached is None:
                continue
            factors[seeds] = factor
            ours[seeds] = float(accuracy_at(mine, told["fixed"]))
            same[seeds] = float(accuracy_at(reached, told["fixed"]))
            moved[seeds] = float(accuracy_at(reached, factor * told["fixed"]))
        if factors:
            difference, left = (paired_difference(ours, others) for others in (same, moved))
            assert difference is not None and left is not None
            place = base, arm, column, kind
            yield Explained(place, reference, told["fixed"], factors, difference, left)


def fitted_factor(ours: Curve | None, reference: Curve | None) -> float | None:
    """The factor of the rate with which the reference's curve comes nearest to the arm's.

    Least squares over the arm's rates where the reference's curve is known at the factor times the
    rate; None where these are fewer than ``SHARED``.
    """
    if ours is None or reference is None:
        return None
    rates, accuracy = ours
    best: tuple[float, float] | None = None
    for factor in FACTORS:
        inside = (factor * rates >= reference[0][0]) & (factor * rates <= reference[0][-1])
        if inside.sum() >= SHARED:
            apart = accuracy[inside] - accuracy_at(reference, factor * rates[inside])
            error = float(np.mean(apart**2))
            # of equal ones that which changes the rate least
            if best is None or (error, abs(np.log(factor))) < (best[0], abs(np.log(best[1]))):
                best = error, float(factor)
    return None if best is None else best[1]


def accuracy_at(curve: Curve, rate: Any) -> Any:
    """Accuracy at a rate, by Akima's interpolation in its logarithm between those tried.

    Chords would be too low near the best rate, where curves are round.
    """
    # a third of a second, which every plan would wait for
    from scipy.interpolate import Akima1DInterpolator

    known = Akima1DInterpolator(np.log(curve[0]), curve[1], method="makima")
    return known(np.log(np.clip(rate, curve[0][0], curve[0][-1])))


def _curve(told: Mapping[str, Any], kind: str, half: int) -> Curve | None:
    """Mean accuracy by rate over every second label subset; without rates whose heads diverged."""
    subsets = [*told["features"][kind]["test_top1"].values()][half::2]
    if not subsets:
        return None
    whole = [i for i in range(len(told["learning_rates"])) if None not in _column(subsets, i)]
    if len(whole) < SHARED:
        return None
    rates = np.array([told["learning_rates"][i] for i in whole])
    return rates, np.array([np.mean(_column(subsets, i)) for i in whole], dtype=float)


def _column(rows: Sequence[Sequence[float | None]], i: int) -> list[Any]:
    return [row[i] for row in rows]


def factors_in_words(found: Sequence[Explained]) -> str:
    """In how many curves a difference beyond noise is left once the rate is changed."""
    if not found:
        return "No column has two label subsets: a factor of the rate can be fitted, not judged."
    beyond = [one for one in found if one.difference.sign]
    if not beyond:
        return (
            f"At the fixed rate no difference of {len(found)} curves is beyond noise on the label "
            "subsets on which a factor is judged: nothing is there to explain."
        )
    left = [one for one in beyond if one.left.sign == one.difference.sign]
    factors = [float(np.median([*one.factors.values()])) for one in beyond]
    return (
        f"At the fixed rate {len(beyond)} of {len(found)} differences are beyond noise. If the "
        f"reference's rate is multiplied with a factor ({min(factors):.2f} to {max(factors):.2f}), "
        f"fitted on other label subsets, {len(left)} of these {len(beyond)} still are."
    )
