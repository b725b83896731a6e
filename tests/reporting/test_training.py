from __future__ import annotations

import pandas as pd
import pytest

from e2mc.reporting.results import ResultError
from e2mc.reporting.training import read_logs, training_figure
from e2mc.study import Run


def test_training_curves_have_a_panel_per_term(study, logs):
    loss, entropy = training_figure(study, "swav_long", logs).axes
    assert (loss.get_title(loc="left"), entropy.get_title(loc="left")) == ("loss", "e2mc: entropy")
    means = [line for line in loss.lines if line.get_linewidth() == 1]
    assert [line.get_ydata()[-1] for line in means] == [1.5, 1.5]
    assert len([line for line in entropy.lines if line.get_linewidth() == 1]) == 1
    with pytest.raises(ValueError, match="no training log belongs to the base simsiam"):
        training_figure(study, "simsiam", logs)


def test_runs_of_several_bases_are_runs_of_their_own(study, tmp_path):
    paths = {}
    for base_seed in (0, 1):
        run = Run("swav_long", "continued", base_seed, 0)
        paths[run] = tmp_path / f"{base_seed}.csv"
        log = {"step": [1, 2], "loss": [3.0, 2.0 + base_seed], "lr": 0.1}
        pd.DataFrame(log | {"seconds": [1.0, 10.0 + 10 * base_seed]}).to_csv(
            paths[run], index=False
        )
    logs = read_logs([*paths], [*paths.values()])
    [loss] = training_figure(study, "swav_long", logs).axes
    runs = [line.get_ydata().tolist() for line in loss.lines if line.get_linewidth() < 1]
    assert runs == [[3.0, 2.0], [3.0, 3.0]]


def test_a_log_that_is_none_is_named(study, tmp_path):
    run, path = Run("swav_long", "e2mc", 0, 0), tmp_path / "training.csv"
    with pytest.raises(ResultError, match=r"training\.csv: cannot be read"):
        read_logs([run], [path])
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ResultError, match="it has no columns step and loss"):
        read_logs([run], [path])
