from __future__ import annotations

import pandas as pd
import pytest

from e2mc.reporting.action import ACTION, action_in_words, action_table
from e2mc.reporting.action_scores import METRICS, actions
from e2mc.reporting.sweep import closed_in_words, compare_closed
from e2mc.study import Run, Study
from tests.reporting.conftest import WHERE, record_of

IDEAL = -0.01
ENTROPY = {"base": -0.41, "continued": -0.31, "e2mc": -0.11, "e2mc-half": -0.17}


def measured(study, run, entropy):
    """A result of embeddings with this entropy; all other scores are 1."""
    record = record_of(study, run, "embeddings")
    scores = dict.fromkeys(METRICS, 1.0) | {"marginal_entropy": entropy}
    record["scores"] = [
        {"metric": metric, "value": value} | dict.fromkeys(WHERE, "")
        for metric, value in scores.items()
    ]
    term = {"term": "entropy", "value": entropy, "ideal": IDEAL}
    return record | {"details": {"terms": {"e2mc": term}}}


def of_runs(study, runs, entropies=ENTROPY):
    """Noise is the same for arms of one seed, so that it cancels in pairs."""
    return [
        measured(study, run, entropies[run.arm] + 0.001 * ((run.continuation_seed or 0) % 100))
        for run in runs
    ]


def test_differences_are_paired_and_closed_is_a_share_of_the_distance(study):
    runs = study.runs(study.tables["main"].rows)
    found = {(one.base, one.arm): one for one in actions(study, of_runs(study, runs))}
    arm = found["swav_long", "e2mc"]
    difference = arm.differences["marginal_entropy"]
    assert arm.reference == "continued" and difference.n == 3 and difference.sign == 1
    assert difference.mean == pytest.approx(0.2) and difference.low == pytest.approx(0.2)
    assert arm.shares == {"e2mc": pytest.approx(0.2 / 0.299, rel=2e-3)}
    # the base has nothing before it, and continued training no criterion
    assert found["swav_long", "base"].differences["marginal_entropy"] is None
    continued = found["swav_long", "continued"]
    assert continued.differences["marginal_entropy"].mean == pytest.approx(0.101)
    assert continued.shares == {}


def test_the_table_shows_every_measure_and_says_where_entropy_rose(study):
    runs = study.runs(study.tables["main"].rows)
    found = actions(study, of_runs(study, runs))
    text = action_table(study, found, "md")
    assert "| + E2MC" in text and "−0.109 ± 0.001" in text and "+0.200 ▲" in text and "67 %" in text
    assert action_in_words(study, found) == (
        "Entropy of the embeddings against the reference. SwAV (long), + E2MC: above, 67 % of the "
        "distance to uniform is closed; SimSiam, + E2MC: above, 67 % of the distance to uniform is "
        "closed."
    )
    for kind in ("tex", "html"):
        assert "norm of features" in action_table(study, found, kind)


def test_a_fall_is_said_and_less_than_asked_too(study):
    study = with_closes(study)
    runs = study.runs(study.tables["main"].rows)
    found = actions(study, of_runs(study, runs, ENTROPY | {"e2mc": -0.35}))
    assert "SimSiam, + E2MC: below, -13 %" in action_in_words(study, found)
    assert "is less than the 50 % for which weights are chosen" in action_table(study, found, "md")


def test_files_are_written_whole(study, tmp_path):
    study = study.model_copy(update={"tables": {"table1": study.tables["main"]}})
    inputs = {"results": []}
    for number, record in enumerate(of_runs(study, study.main_runs())):
        path = tmp_path / f"{number}.json"
        path.write_text(pd.Series(record).to_json(), encoding="utf-8")
        inputs["results"].append(path)
    outputs = {name: tmp_path / name for name in ACTION.outputs(study)}
    assert sorted(outputs) == ["action.csv", "action.html", "action.md", "action.tex"]
    ACTION.make(study, inputs, outputs)
    frame = pd.read_csv(outputs["action.csv"])
    assert set(frame["metric"]) == {*METRICS, "closed of e2mc"}
    row = frame.query("base == 'simsiam' and arm == 'e2mc' and metric == 'marginal_entropy'").iloc[
        0
    ]
    assert row["difference"] == pytest.approx(0.2) and row["reference"] == "continued"


def with_closes(study) -> Study:
    content = study.model_dump(mode="json")
    content["sweep"] |= {"columns": [], "closes": 0.5}
    return Study.model_validate(content)


def test_the_first_candidate_that_closes_enough_is_taken(study):
    study = with_closes(study)
    runs = study.runs(study.sweep.rows, study.sweep.seeds)
    assert [run.arm for run in runs] == ["continued", "e2mc-half", "e2mc"]
    found = compare_closed(study, actions(study, of_runs(study, runs)))
    assert found["arm"].tolist() == ["e2mc-half", "e2mc"]
    assert found["taken"].tolist() == [False, True]  # 47 % and 67 %
    assert closed_in_words(study, found)[1] == "SwAV (long), e2mc: e2mc is taken (67 %)."


def test_the_last_candidate_is_taken_where_none_closes_enough(study):
    study = with_closes(study)
    runs = study.runs(study.sweep.rows, study.sweep.seeds)
    weak = dict.fromkeys(ENTROPY, -0.31) | {"e2mc": -0.30}
    found = compare_closed(study, actions(study, of_runs(study, runs, weak)))
    assert found["taken"].tolist() == [False, True]
    assert closed_in_words(study, found)[1].endswith("e2mc is taken (3 %): none closes as much.")


def test_a_sweep_has_one_rule(study):
    content = study.model_dump(mode="json")
    for change in ({"closes": 0.5}, {"columns": []}):
        with pytest.raises(ValueError, match="sweep needs either columns, .* or closes"):
            Study.model_validate(content | {"sweep": content["sweep"] | change})


def test_weights_do_not_decide_what_is_measured(study):
    content = study.model_dump(mode="json")
    content["arms"]["e2mc"]["params"] = {"entropy_weight": 3.0, "mapping": "logistic"}
    content["tables"]["table1"] = content["tables"].pop("main")
    changed = Study.model_validate(content)
    assert changed.paradigm("embeddings", "swav_long").criteria == {"e2mc": {"mapping": "logistic"}}
    assert Run("swav_long", "e2mc", 0, 1) in changed.main_runs()
