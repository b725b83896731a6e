from __future__ import annotations

import pandas as pd
import pytest

from e2mc.reporting.cost import cost_figure, cost_per_row
from e2mc.reporting.results import collect
from e2mc.reporting.training import read_logs


def test_cost_adds_up_paradigms_and_averages_seeds(study, write_results, logs):
    results = collect(write_results(lambda *_: 70.0, wall_seconds=4.0))
    costs = cost_per_row(study, ["main"], results, logs)
    of_row = costs[(costs["base"] == "swav_long") & (costs["arm"] == "e2mc")].set_index("stage")
    assert of_row.loc["training", "seconds"] == 30.5 and of_row.loc["training", "n"] == 2
    assert dict(of_row["seconds"].drop("training")) == {"linear": 4.0, "finetune": 4.0, "svm": 4.0}
    assert set(of_row["n"].drop("training")) == {3}
    base = costs[(costs["base"] == "swav_long") & (costs["arm"] == "base")]
    assert "training" not in set(base["stage"]) and set(base["n"]) == {1}
    axes = cost_figure(study, costs).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == [
        "SwAV (long), base",
        "SwAV (long), continued",
        "SwAV (long), + E2MC",
    ]
    assert axes.get_xlabel() == "seconds"
    hours = cost_figure(study, costs.assign(seconds=costs["seconds"] * 3600)).axes[0]
    assert hours.get_xlabel() == "hours"
    ends = [bar.get_x() + bar.get_width() for bar in hours.patches]
    assert max(ends) == pytest.approx(30.5 + 12)
    with pytest.raises(ValueError, match="no run has a cost"):
        cost_figure(study, costs[:0])


def test_runs_of_several_bases_count_each(study, write_results, logs):
    logs = pd.concat([logs, logs.assign(base_seed=1, seconds=logs["seconds"] + 20)])
    costs = cost_per_row(study, ["main"], collect(write_results(lambda *_: 70.0)), logs)
    training = costs[(costs["stage"] == "training") & (costs["arm"] == "e2mc")]
    assert training[["seconds", "n"]].values.tolist() == [[40.5, 4]]


def test_a_study_that_trains_nothing_has_the_costs_of_its_bases(study, write_results):
    results = collect(write_results(lambda *_: 70.0))
    costs = cost_per_row(study, ["main"], results, read_logs([], []))
    assert set(costs["stage"]) == {"linear", "finetune", "svm"}


def test_a_kind_of_paradigm_that_is_new_has_a_colour_of_its_own(seventh, write_results, logs):
    results = collect(write_results(lambda *_: 70.0, of=seventh))
    costs = cost_per_row(seventh, ["main"], results, logs)
    assert "seventh" in set(costs["stage"])
    axes = cost_figure(seventh, costs).axes[0]
    colours = {bar.get_label(): bar.patches[0].get_facecolor() for bar in axes.containers}
    assert list(colours)[-1] == "seventh of its kind"
    assert len(set(colours.values())) == len(colours) == 3  # training and SVM besides
