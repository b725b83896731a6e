from __future__ import annotations

import pytest

from e2mc.reporting.results import collect
from e2mc.reporting.sweep import (
    SWEEP,
    SWEEP_RATES,
    compare_candidates,
    compare_rates,
    rates_in_words,
    weights_in_words,
)
from e2mc.study import Study

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


@pytest.fixture
def with_rates(study):
    """The study with two stages: three rates of SwAV, then a candidate beside its reference."""
    content = study.model_dump(mode="json")
    short = {"label": "short", "epochs": 2, "reference": "base"}
    content["arms"] |= {
        "short": short,
        "short-x10": short | {"lr_factor": 10},
        "short-x100": short | {"lr_factor": 100},
        "e2mc-short": {"label": "E2MC short", "variant_of": "e2mc", "reference": "short"},
    }
    content["sweep"] = {
        "rates": {
            "within": 0.1,
            "rows": [{"base": "swav_long", "arms": ["short-x100", "short", "short-x10"]}],
        },
        "rows": [{"base": "swav_long", "arms": ["short", "e2mc-short"]}],
        "columns": ["linear_1", "outfits_map"],
        "seeds": [100],
    }
    return Study.model_validate(content)


def results_of(study, write_results, moved):
    """Results of both stages: what each arm moves linear 1 % by, and half of it the other way."""

    def score(run, paradigm, features):
        return 50.0 + moved.get(run.arm, 0.0) * (1 if paradigm == "linear_1" else -0.5)

    runs = study.runs(study.sweep_rows(), study.sweep.seeds)
    runs += study.runs([row.model_copy(update={"arms": ("base",)}) for row in study.sweep.rows])
    return collect(write_results(score, runs=runs, of=study))


def test_the_largest_rate_that_stays_near_the_base_is_taken(with_rates, write_results):
    moved = {"short": 0.02, "short-x10": -0.104, "short-x100": -0.8}
    found = compare_rates(with_rates, results_of(with_rates, write_results, moved))
    assert found["arm"].tolist() == ["short", "short-x10", "short-x100"]
    assert found["lr"].tolist() == pytest.approx([1e-3, 1e-2, 1e-1])
    # on the column where it is largest; to two decimals -0.104 is within 0.1
    assert found["apart"].tolist() == pytest.approx([0.02, -0.104, -0.8])
    assert found["taken"].tolist() == [False, True, False]
    rule, said = rates_in_words(with_rates, found)
    assert "the largest rate is taken that moves no column by more than 0.1 points" in rule
    assert said == (
        "SwAV (long): 0.01 is taken (−0.10), the study has 0.001: write 0.01 to "
        "bases.swav_long.continued.optimizer.lr before weights are compared; they are compared at "
        "the study's rate."
    )


def test_a_rate_that_is_the_studys_own_or_none_at_all(with_rates, write_results):
    moved = {"short": 0.02, "short-x10": -0.5, "short-x100": -0.8}
    found = compare_rates(with_rates, results_of(with_rates, write_results, moved))
    assert rates_in_words(with_rates, found)[1] == (
        "SwAV (long): 0.001 is taken (+0.02), the study's own."
    )
    found = compare_rates(with_rates, results_of(with_rates, write_results, moved | {"short": 1}))
    assert not found["taken"].any()
    assert (
        "none is taken, every rate moves a column by more" in rates_in_words(with_rates, found)[1]
    )


def test_every_candidate_of_two_stages_has_a_gain(with_rates, write_results):
    moved = {"short": 0.02, "e2mc-short": 0.42}
    results = results_of(with_rates, write_results, moved)
    found = compare_candidates(with_rates, results)
    assert found["gain"].tolist() == pytest.approx([0.1, 0.005])
    assert weights_in_words(with_rates, found)[1:] == ["SwAV (long): e2mc-short (+0.10)."]


def test_files_of_two_stages(with_rates, write_results, tmp_path, monkeypatch):
    results_of(with_rates, write_results, {"short": 0.02})
    monkeypatch.chdir(tmp_path)
    for part in (SWEEP_RATES, SWEEP):
        files = part.outputs(with_rates)
        part.show(with_rates, files)
    rates = (with_rates.root / "sweep_rates.csv").read_text().splitlines()
    assert rates[0] == "base,arm,lr,linear_1,outfits_map,apart,taken"
    assert rates[1].startswith("swav_long,short,0.001,") and rates[1].endswith("0.020,False")
    text = (with_rates.root / "sweep.md").read_text()
    assert text.index("The rule: of each base the largest rate") < text.index("best gain is taken")
    assert {*SWEEP_RATES.inputs(with_rates)} < {*SWEEP.inputs(with_rates)}


def test_a_study_without_rates_says_so(study):
    sentence = "study tiny has no rates in its sweep: add the key sweep.rates to its file"
    assert SWEEP_RATES.lacking(study) == sentence
    with pytest.raises(ValueError, match=sentence):
        compare_rates(study, collect([]))


def test_a_candidate_without_its_reference_is_refused(study):
    content = study.model_dump(mode="json")
    content["sweep"]["rows"][0]["arms"] = ["continued", "e2mc-long"]
    with pytest.raises(
        ValueError, match="sweep: e2mc-long is compared with continued-long, which is not among the"
    ):
        Study.model_validate(content)
