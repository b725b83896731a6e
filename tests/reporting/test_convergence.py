from __future__ import annotations

import pytest

from e2mc.reporting.convergence import convergence_figure, convergence_scores
from e2mc.reporting.results import collect
from e2mc.study import Convergence


@pytest.fixture
def converging(study):
    curves = [["continued", "continued-long"], ["e2mc", "e2mc-long"]]
    shown = Convergence(base="swav_long", curves=curves, columns=["linear_1"])
    return study.model_copy(update={"convergence": shown})


def test_curves_begin_at_the_base_and_compare_at_equal_epochs(converging, write_results):
    def score(run, paradigm, features):
        epochs = converging.epochs_of(run.base, run.arm)
        gain = (1.0 if run.arm.startswith("e2mc") else 0.2) * epochs
        return 70.0 + gain + 0.1 * (run.continuation_seed or 0)

    runs = converging.runs(converging.convergence_rows())
    scores = convergence_scores(converging, collect(write_results(score, runs=runs)))
    points = scores.set_index(["curve", "epochs"])["mean"].round(6)
    assert points["continued"].to_dict() == {0: 70.0, 1: 70.3, 2: 70.5}
    assert points["e2mc"].to_dict() == {0: 70.0, 1: 71.1, 2: 72.1}
    apart = scores[scores["curve"] == "e2mc"].set_index("epochs")["difference"]
    assert apart[1] == pytest.approx(0.8) and apart[2] == pytest.approx(1.6)
    reference = scores[scores["curve"] == "continued"]
    assert reference["difference"].isna().all()
    axes = convergence_figure(converging, scores).axes[0]
    assert axes.get_title(loc="left") == "linear 1 %"
    assert sorted(container.get_label() for container in axes.containers) == [
        "+ E2MC",
        "continued",
    ]


def test_a_point_without_counterpart_is_compared_with_nothing(converging, write_results):
    curves = (("continued",), ("e2mc", "e2mc-long"))
    shown = converging.convergence.model_copy(update={"curves": curves})
    study = converging.model_copy(update={"convergence": shown})
    runs = study.runs(study.convergence_rows())
    scores = convergence_scores(study, collect(write_results(lambda *_: 70.0, runs=runs)))
    apart = scores[scores["curve"] == "e2mc"].set_index("epochs")["difference"]
    assert apart[1] == 0.0 and apart.isna()[2]


def test_convergence_without_curves_or_results(study, converging):
    with pytest.raises(ValueError, match="no convergence: add the key"):
        convergence_scores(study, collect([]))
    with pytest.raises(ValueError, match="no result belongs to the curves of swav_long"):
        convergence_scores(converging, collect([]))
