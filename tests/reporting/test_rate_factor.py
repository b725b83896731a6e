"""Whether a change of the probe's rate explains a difference."""

from __future__ import annotations

import numpy as np
import pytest

from e2mc.reporting.rate_factor import (
    FACTOR_COLUMNS,
    accuracy_at,
    explained,
    factors_in_words,
    fitted_factor,
)
from e2mc.study import Study
from tests.reporting.conftest import record_of

RATES = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0])


def hill(rates):
    """Accuracy that rises to a best rate of 0.2 and falls beyond it."""
    return 80 - 4 * np.log(np.asarray(rates) / 0.2) ** 2


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 3.0])
def test_a_curve_that_is_moved_along_the_rates_gives_the_factor(factor):
    dense = np.geomspace(1e-3, 30, 400)
    found = fitted_factor((RATES, hill(factor * RATES)), (dense, hill(dense)))
    assert found == pytest.approx(factor, rel=0.01)


def test_a_flat_curve_changes_the_rate_least_and_two_rates_are_too_few():
    flat = RATES, np.full(6, 70.0)
    assert fitted_factor(flat, flat) == pytest.approx(1.0)
    assert fitted_factor((RATES[:2], flat[1][:2]), flat) is None
    assert fitted_factor(None, flat) is None


def test_accuracy_between_rates_follows_the_curve():
    curve = RATES, hill(RATES)
    assert accuracy_at(curve, RATES) == pytest.approx(hill(RATES))
    assert accuracy_at(curve, 0.17) == pytest.approx(hill(0.17), abs=0.6)


@pytest.fixture
def shown(study) -> Study:
    content = study.model_dump(mode="json")
    content["rates"] = {
        "rows": [{"base": "swav_long", "arms": ["continued", "e2mc"]}],
        "columns": ["linear_1"],
    }
    return Study.model_validate(content)


def records(study, accuracy, subsets=4):
    """``accuracy(arm, rates)``, and noise of the subset and the seed."""
    found = []
    for run in study.runs(study.rates.rows):
        curves = {}
        for subset in range(subsets):
            noise = 0.3 * subset + 0.05 * run.continuation_seed * (run.arm == "e2mc")
            curves[str(subset)] = [float(x) + noise for x in accuracy(run.arm, RATES)]
        told = {"raw": {"test_top1": curves}}
        rates = {"learning_rates": RATES.tolist(), "fixed": 0.03, "features": told}
        found.append(record_of(study, run, "linear_1") | {"details": {"rates": rates}})
    return found


def test_a_difference_that_is_the_rate_is_explained(shown):
    """E2MC is the reference at twice the rate: 0.03 is low, so it gains there."""

    def accuracy(arm, rates):
        return hill((2.0 if arm == "e2mc" else 1.0) * rates)

    [one] = explained(shown, records(shown, accuracy))
    assert one.place == ("swav_long", "e2mc", "linear_1", "raw") and one.reference == "continued"
    assert one.flat().keys() == set(FACTOR_COLUMNS)
    assert np.median([*one.factors.values()]) == pytest.approx(2.0, rel=0.15)
    assert one.difference.sign == 1 and one.difference.mean > 8
    assert abs(one.left.mean) < 0.1 * one.difference.mean


def test_a_difference_at_every_rate_is_left(shown):
    def accuracy(arm, rates):
        return hill(rates) + 3.0 * (arm == "e2mc")

    found = explained(shown, records(shown, accuracy))
    [one] = found
    assert one.difference.mean == pytest.approx(3.05) and one.left.mean > 1.0
    assert factors_in_words(found) == (
        "At the fixed rate 1 of 1 differences are beyond noise. If the reference's rate is "
        f"multiplied with a factor ({np.median([*one.factors.values()]):.2f} to "
        f"{np.median([*one.factors.values()]):.2f}), fitted on other label subsets, 1 of these 1 "
        "still are."
    )


def test_one_label_subset_judges_nothing(shown):
    found = explained(shown, records(shown, lambda arm, rates: hill(rates), subsets=1))
    assert found == [] and factors_in_words(found).startswith("No column has two label subsets")


def test_heads_that_diverged_are_left_out(shown):
    made = records(shown, lambda arm, rates: hill(rates))
    for record in made:
        for curve in record["details"]["rates"]["features"]["raw"]["test_top1"].values():
            curve[-1] = None
    [one] = explained(shown, made)
    assert one.left.mean == pytest.approx(0.05)
