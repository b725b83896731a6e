"""Entropy and reconstruction during training, as a figure."""

from __future__ import annotations

import pandas as pd
import pytest

from e2mc.reporting.information import (
    PANELS,
    curve_endpoints,
    information_figure,
    read_curves,
)
from e2mc.reporting.results import ResultError
from e2mc.study import Study


@pytest.fixture
def measured(study, tmp_path, monkeypatch) -> Study:
    content = study.model_dump(mode="json")
    content["bases"]["swav_er"] = content["bases"]["swav_long"] | {
        "method": {"name": "swav", "params": {"dim": 8, "prototypes": 4, "objective": "er"}}
    }
    content["information"] = {"bases": ["swav_long", "swav_er"]}
    content["seeds"]["base"] = [0, 1]
    monkeypatch.chdir(tmp_path)
    return Study.model_validate(content)


def curves(study: Study) -> pd.DataFrame:
    runs = study.information_runs()
    return read_curves(runs, [study.information_path(run) for run in runs])


def write(study: Study, columns: str = "") -> None:
    for run in study.information_runs():
        path = study.information_path(run)
        path.parent.mkdir(parents=True)
        head = columns or "epoch,entropy,reconstruction,bound,marginal_entropy,uniform"
        seed = run.base_seed
        path.write_text(f"{head}\n0,{-9 + seed},-8,-1,-3,-10\n1,{-7 + seed},-9,2,-2,-10\n")


def test_figure_shows_the_mean_over_seeds_of_every_measure(measured):
    write(measured)
    figure = information_figure(measured, curves(measured))
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(PANELS.values())
    own, er = figure.axes[0].lines
    assert list(own.get_xdata()) == [0, 1] and list(own.get_ydata()) == [1.5, 3.5]
    assert (own.get_linestyle(), er.get_linestyle()) == ("-", "--")


def test_endpoints_are_the_first_and_the_last_epoch(measured):
    write(measured)
    lines = curve_endpoints(measured, curves(measured)).splitlines()
    assert lines[2].startswith("| SwAV (long) | 1.50 → 3.50 | 2.00 → 1.00 |") and len(lines) == 4


def test_missing_or_wrong_files_are_named(measured):
    with pytest.raises(ResultError, match=r"base0/information.csv: cannot be read .*run its"):
        curves(measured)
    write(measured, columns="epoch,entropy,reconstruction,bound,other,uniform")
    with pytest.raises(ResultError, match="lacks marginal_entropy"):
        curves(measured)
