from __future__ import annotations

import pytest

from e2mc.reporting.results import collect
from e2mc.reporting.sweep import compare_candidates

GAIN = {"continued": 0.0, "e2mc": -1.0, "e2mc-half": 2.0}


def test_candidates_are_ranked_by_their_gain_on_validation(study, write_results):
    def score(run, paradigm, features):
        return 50.0 + GAIN[run.arm] + 10 * (paradigm == "outfits_map")

    runs = study.runs(study.sweep.rows, study.sweep.seeds)
    reported = study.runs(study.sweep.rows)  # seeds of the tables must not leak in
    paths = write_results(score, runs=runs) + write_results(lambda *_: 99.0, runs=reported)
    found = compare_candidates(study, collect(paths))
    assert list(found["arm"]) == ["e2mc-half", "e2mc", "continued"]
    assert list(found["gain"])[:2] == [2.0, -1.0]
    # the validation split is 7 points below the test split in these files
    assert found.iloc[0][["linear_1", "outfits_map", "mean"]].tolist() == [45.0, 55.0, 50.0]


def test_a_study_without_a_sweep_is_refused(study):
    with pytest.raises(ValueError, match="study tiny has no sweep: add the key to its file"):
        compare_candidates(study.model_copy(update={"sweep": None}), collect([]))
