"""Tables of a study whose bases are evaluated with several seeds."""

from __future__ import annotations

import json

import pytest

from e2mc.reporting.results import collect
from e2mc.reporting.statistics import headline_scores, paired_difference, seeded_scores
from e2mc.reporting.tables import build_table
from e2mc.study import BASE_ARM, Study

LUCK = {0: -1.0, 1: 0.0, 2: 4.0}  # of an evaluation seed, whatever is evaluated


def with_seeds(study, **seeds):
    content = study.model_dump(mode="json")
    content["seeds"] |= seeds
    return Study.model_validate(content)


@pytest.fixture
def seeded(study, write_results):
    """A study with three evaluation seeds, and its results."""
    made = with_seeds(study, evaluation=[0, 1, 2], same_order=True)
    paths = write_results(lambda run, *_: 60.0 + (run.arm == "e2mc"), of=made)
    for path in paths:
        record = json.loads(path.read_text())
        seeds = (
            [0]
            if not made.paradigms[record["paradigm"]].draws
            else [0, 1, 2]
            if record["arm"] == BASE_ARM
            else [record["continuation_seed"]]
        )
        record["scores"] = [
            score | {"evaluation_seed": seed, "value": score["value"] + LUCK[seed]}
            for score in record["scores"]
            for seed in seeds
        ]
        path.write_text(json.dumps(record))
    return made, collect(paths)


def test_scores_of_a_base_are_told_apart_by_their_seed(seeded):
    study, results = seeded
    of_base = seeded_scores(study, results)["swav_long", "base", "linear_1", "raw"]
    assert of_base == {(0, None, seed): 60.0 + luck for seed, luck in LUCK.items()}
    assert headline_scores(study, results)["swav_long", "base", "linear_1", "raw"] == {
        (0, None): 61.0
    }


def test_what_an_evaluation_seed_does_to_both_cancels(seeded):
    study, results = seeded
    scores = seeded_scores(study, results)
    arm, base = (scores["swav_long", arm, "linear_1", "raw"] for arm in ("e2mc", "base"))
    found = paired_difference(arm, base)
    assert (found.mean, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 3)


def test_every_spread_says_what_it_is_over(seeded):
    study, results = seeded
    entries = {
        (entry.base, entry.arm, entry.column): entry
        for entry in build_table(study, "main", results).entries
        if entry.features == "raw"
    }

    def told(arm, column):
        entry = entries["swav_long", arm, column]
        return entry.n, entry.planned, entry.over, entry.flat()["std_over"]

    over = "evaluation seeds"
    assert told("base", "linear_1") == (3, 3, over, over)
    assert entries["swav_long", "base", "linear_1"].std == pytest.approx(7**0.5)
    over = "continuation and evaluation seeds"
    assert told("e2mc", "linear_1") == (3, 3, over, over)
    # the solver of an SVM draws nothing
    assert told("base", "outfits_map") == (1, 1, "", "")
    assert told("e2mc", "outfits_map") == (3, 3, "continuation seeds", "continuation seeds")


def test_notes_name_the_seeds_and_what_draws_nothing(seeded):
    study, results = seeded
    table = build_table(study, "main", results)
    first, second, *_ = table.notes
    assert "3 continuation seeds, each with an evaluation seed of its own" in first
    assert "3 evaluations per base (1 pre-training × 3 evaluation seeds)" in first
    assert "initial weights and random views. The order is the same for all" in second
    assert "outfits mAP: nothing is drawn, one evaluation per run." in second
    assert 'title="n = 3, over evaluation seeds"' in table.html()


def test_results_without_such_seeds_are_read_as_seed_zero(study, write_results):
    results = collect(write_results(lambda *_: 60.0))
    assert set(results["evaluation_seed"]) == {0}


def test_continued_runs_have_the_evaluation_seed_of_their_own_number(study):
    from e2mc.study import Run

    made = with_seeds(study, evaluation=[0, 1, 2])
    assert made.evaluation_seeds(Run("simsiam", "base", 0, None)) == (0, 1, 2)
    assert [made.evaluation_seeds(Run("simsiam", "e2mc", 0, n)) for n in (0, 2, 100)] == [
        (0,),
        (2,),
        (0,),
    ]
    for seed in (0, 1, 2):
        assert study.evaluation_seeds(Run("simsiam", "e2mc", 0, seed)) == (0,)
    with pytest.raises(ValueError, match=r"evaluation lacks \[2\], which are continuation seeds"):
        with_seeds(study, evaluation=[0, 1])
    with pytest.raises(ValueError, match="evaluation must name each seed once"):
        with_seeds(study, evaluation=[0, 0])
