"""The key ``rates``: whose heads of several rates are trained, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2mc.steps.evaluation import decided_by
from e2mc.study import Run, Study, load_study


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.fixture
def fashion(_in_the_repository):
    return load_study("fashion")


def changed(study, **rates):
    content = study.model_dump(mode="json")
    return Study.model_validate(content | {"rates": content["rates"] | rates})


def test_heads_of_several_rates_are_trained_where_the_study_compares(fashion):
    for arm, asked in (("base", False), ("continued", True), ("e2mc", True), ("vcreg", False)):
        for column in ("linear_1", "linear_10", "linear_100"):
            values = fashion.paradigm(column, "swav_long", arm).values()
            assert ("rates" in values) is asked
    assert "rates" not in fashion.paradigm("digits_top1", "swav_long", "e2mc").values()
    assert fashion.paradigm("linear_1", "swav_long", "e2mc").label == "linear 1 %"


def test_what_decides_other_results_does_not_tell_of_them(fashion):
    without = fashion.model_copy(update={"rates": None})
    for arm, column in (("base", "linear_1"), ("vcreg", "linear_1"), ("e2mc", "digits_top1")):
        run = Run("swav_long", arm, 0, None if arm == "base" else 0)
        assert decided_by(fashion, run, column) == decided_by(without, run, column)
    run = Run("swav_long", "e2mc", 0, 0)
    assert decided_by(fashion, run, "linear_1") != decided_by(without, run, "linear_1")


def test_rates_lie_around_those_of_a_base():
    paper = load_study("paper")
    for base, rate in (("swav_800", 0.3), ("vicreg", 0.02), ("simsiam", 1.6)):
        rates = paper.paradigm("linear_1", base, "e2mc").values()["rates"]
        assert len(rates) == 7 and rates[3] == rate
        assert rates[0] == pytest.approx(0.03 * rate) and rates[-1] == pytest.approx(30 * rate)


def test_stages_in_one_folder_have_the_same(fashion):
    paper = load_study("paper")
    run = Run("swav_800", "e2mc", 0, 0)
    for stage in ("paper-first", "paper-ablations", "paper-criteria", "paper-convergence"):
        other = load_study(stage)
        assert decided_by(other, run, "linear_1") == decided_by(paper, run, "linear_1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"columns": ["knn"]},
            "rates.columns: knn: kind knn has no heads of several rates: leave it",
        ),
        ({"columns": ["nothing"]}, "rates: paradigm 'nothing' does not exist"),
        ({"rows": [{"base": "vicreg", "arms": ["other"]}]}, "rates: arm 'other' does not exist"),
        (
            {"rows": [{"base": "vicreg", "arms": ["e2mc"]}]},
            "rates: e2mc is compared with continued, which is not among the arms of vicreg",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(fashion, change, message):
    with pytest.raises(ValueError, match=message):
        changed(fashion, **change)
