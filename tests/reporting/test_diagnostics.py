from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from e2mc.reporting.convergence import convergence_figure, convergence_scores
from e2mc.reporting.cost import cost_figure, cost_per_row
from e2mc.reporting.embeddings import embedding_figure, spectrum_figure
from e2mc.reporting.results import ResultError, collect
from e2mc.reporting.training import read_logs, training_figure
from e2mc.study import Convergence, Run


@pytest.fixture
def records():
    """Measured results of three arms; E2MC's entropies are higher."""
    found = []
    for arm, seeds, entropy in (("base", [None], -0.3), ("continued", [0, 1], -0.3),
                                ("e2mc", [0, 1], -0.1)):  # fmt: skip
        for seed in seeds:
            run = {"base": "swav_long", "arm": arm, "continuation_seed": seed}
            spread = np.exp(-(np.linspace(-1, 1, 20) ** 2) * 20)
            found.append(
                {
                    **run,
                    "paradigm": "embeddings",
                    "scores": [{"metric": "embedding_rank", "value": 10.0 + (seed or 0)}],
                    "details": {
                        "marginals": {
                            "edges": np.linspace(0, 1, 11).tolist(),
                            "coordinates": [0, 7],
                            "densities": [[1.0] * 10, [0.5, 1.5] * 5],
                            "entropies": [entropy, entropy - 0.1],
                        },
                        "entropies": np.linspace(entropy - 0.2, entropy, 101).tolist(),
                        "correlations": {
                            "edges": np.linspace(-1, 1, 21).tolist(),
                            "density": spread.tolist(),
                        },
                        "spectrum": {"rank": [1, 2, 4, 8], "share": [0.5, 0.2, 0.1, 0.01]},
                    },
                }
            )
            found.append(
                {
                    **run,
                    "paradigm": "separability",
                    "scores": [],
                    "details": {"rank": {"effective_rank": 5.0}},
                }
            )
    return found


def test_embeddings_have_a_row_of_marginals_per_arm(study, records):
    figure = embedding_figure(study, records)
    above, below = figure.subfigs
    assert len(above.axes) == 3 * 2
    assert [axes.get_ylabel() for axes in above.axes[::2]] == ["base", "continued", "+ E2MC"]
    assert [axes.texts[0].get_text() for axes in above.axes[::2]] == ["−0.30", "−0.30", "−0.10"]
    entropies, correlations = below.axes
    curves = [line for line in entropies.lines if len(line.get_xdata()) == 101]
    assert len(curves) == 3 and curves[2].get_ydata()[-1] == pytest.approx(-0.1)
    assert len(correlations.patches) == 3
    with pytest.raises(ValueError, match="no embeddings result of swav_long"):
        embedding_figure(study, [r for r in records if r["paradigm"] == "separability"])


def test_spectrum_shows_embeddings_and_features(study, records):
    curves, ranks = spectrum_figure(study, records).axes
    assert len(curves.lines) == 3
    filled = [line for line in ranks.lines if 10.0 in np.atleast_1d(line.get_xdata())]
    features = [line for line in ranks.lines if 5.0 in np.atleast_1d(line.get_xdata())]
    assert len(filled) == len(features) == 3


@pytest.fixture
def logs(study, tmp_path):
    """Training logs of two arms with two seeds each; E2MC has a term of its own."""
    paths = {}
    for arm in ("continued", "e2mc"):
        for seed in (0, 1):
            run = Run("swav_long", arm, 0, seed)
            frame = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0 + seed]})
            if arm == "e2mc":
                frame["e2mc/entropy"] = [-0.3, -0.2, -0.1]
            frame = frame.assign(lr=0.1, seconds=[1.0, 2.0, 30.0 + seed])
            paths[run] = tmp_path / study.log_path(run)
            paths[run].parent.mkdir(parents=True)
            frame.to_csv(paths[run], index=False)
    return read_logs(paths)


def test_training_curves_have_a_panel_per_term(study, logs):
    loss, entropy = training_figure(study, "swav_long", logs).axes
    assert (loss.get_title(loc="left"), entropy.get_title(loc="left")) == ("loss", "e2mc: entropy")
    means = [line for line in loss.lines if line.get_linewidth() == 1]
    assert [line.get_ydata()[-1] for line in means] == [1.5, 1.5]
    assert len([line for line in entropy.lines if line.get_linewidth() == 1]) == 1
    with pytest.raises(ValueError, match="no training log belongs to the base simsiam"):
        training_figure(study, "simsiam", logs)


def test_runs_of_several_bases_are_runs_of_their_own(study, write_results, tmp_path):
    paths = {}
    for base_seed in (0, 1):
        run = Run("swav_long", "continued", base_seed, 0)
        paths[run] = tmp_path / f"{base_seed}.csv"
        log = {"step": [1, 2], "loss": [3.0, 2.0 + base_seed], "lr": 0.1}
        pd.DataFrame(log | {"seconds": [1.0, 10.0 + 10 * base_seed]}).to_csv(
            paths[run], index=False
        )
    logs = read_logs(paths)
    [loss] = training_figure(study, "swav_long", logs).axes
    runs = [line.get_ydata().tolist() for line in loss.lines if line.get_linewidth() < 1]
    assert runs == [[3.0, 2.0], [3.0, 3.0]]
    costs = cost_per_row(study, ["main"], collect(write_results(lambda *_: 70.0)), logs)
    [training] = costs[costs["stage"] == "training"].to_dict("records")
    assert (training["seconds"], training["n"]) == (15.0, 2)


def test_a_log_that_is_none_is_named(study, tmp_path):
    run, path = Run("swav_long", "e2mc", 0, 0), tmp_path / "training.csv"
    with pytest.raises(ResultError, match=r"training\.csv: cannot be read"):
        read_logs({run: path})
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ResultError, match="it has no columns step and loss"):
        read_logs({run: path})


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
    with pytest.raises(ValueError, match="add the key `convergence`"):
        convergence_scores(study, collect([]))
    with pytest.raises(ValueError, match="no result belongs to the curves of swav_long"):
        convergence_scores(converging, collect([]))
