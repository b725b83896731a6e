from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from e2mc.reporting.results import collect
from e2mc.reporting.statistics import (
    Difference,
    headline_scores,
    interval,
    more_than_chance,
    paired_difference,
    reference_arm,
    spread,
)


def test_headline_is_the_mean_over_label_subsets_after_the_last_epoch_on_test(study, write_results):
    scores = headline_scores(study, collect(write_results(lambda run, p, f: 60.0 + (f != "raw"))))
    assert set(scores["swav_long", "e2mc", "linear_1", "raw"].items()) == {
        ((0, seed), 60.0) for seed in (0, 1, 2)
    }
    assert scores["swav_long", "base", "linear_1", "whitened"] == {(0, None): 61.0}
    assert scores["simsiam", "base", "outfits_map", "raw"] == {(0, None): 60.0}


def test_interval_is_that_of_the_one_sample_t_test():
    values = [0.3, -0.1, 0.5, 0.2]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high))


def test_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(2000, 3))
    ends = np.array([interval(values) for values in draws])
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert covered == pytest.approx(0.95, abs=0.015)


def test_spread_of_none_one_and_more():
    assert np.isnan(spread([])).all()
    mean, std = spread([3.0])
    assert mean == 3.0 and math.isnan(std)
    assert spread([1.0, 3.0]) == pytest.approx((2.0, math.sqrt(2)))


def test_pairs_share_both_seeds_and_what_is_common_cancels():
    luck = {0: 10.0, 1: -5.0, 2: 3.0}
    reference = {(0, seed): 50 + luck[seed] for seed in luck}
    scores = {(0, seed): 50.3 + luck[seed] for seed in luck} | {(0, 9): 99.0}
    found = paired_difference(scores, reference)
    assert (found.mean, found.n, found.sign) == (pytest.approx(0.3), 3, 1)
    assert found.low == pytest.approx(0.3) and found.high == pytest.approx(0.3)


def test_a_base_is_subtracted_from_every_run_of_its_seed():
    found = paired_difference({(0, 0): 51.0, (0, 1): 53.0}, {(0, None): 50.0, (1, None): 0.0})
    assert (found.mean, found.n, found.sign) == (2.0, 2, 0)


def test_several_bases_are_the_unit_of_the_interval():
    scores = {(base, seed): base + seed / 100 for base in (0, 1, 2) for seed in (0, 1)}
    found = paired_difference(scores, dict.fromkeys(scores, 0.0))
    assert found.n == 3
    assert (found.low, found.high) == pytest.approx(interval([0.005, 1.005, 2.005]))


def test_one_pair_has_no_interval_and_no_pair_no_difference():
    found = paired_difference({(0, 0): 51.0}, {(0, 0): 50.0})
    assert found.mean == 1.0 and math.isnan(found.low) and found.sign is None
    assert paired_difference({(0, 0): 51.0}, {(1, 0): 50.0}) is None


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 0.3, 1), (-0.3, -0.1, -1), (-0.1, 0.3, 0), (0.0, 0.0, 0)]
)
def test_sign(low, high, sign):
    assert Difference((low + high) / 2, low, high, 3).sign == sign


def test_reference_of_an_arm(study):
    arms = ("base", "continued", "e2mc", "e2mc-long")
    found = [reference_arm(study, arm) for arm in arms]
    assert found == ["", "base", "continued", "continued-long"]


def test_more_than_chance_against_simulation():
    counts = np.random.default_rng(0).binomial(28, 0.025, size=20_000)
    for count in range(1, 6):
        assert more_than_chance(count, 28) == ((counts >= count).mean() < 0.05)
    assert not more_than_chance(0, 28)
