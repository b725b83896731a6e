from __future__ import annotations

import pytest

from e2mc.reporting.gains import gain_figure
from e2mc.reporting.results import collect
from e2mc.reporting.style import look


def test_gains_have_one_panel_per_base_and_one_marker_per_difference(study, write_results):
    results = collect(write_results(lambda run, p, f: 70.0 + (run.continuation_seed or 0)))
    figure = gain_figure(study, results, ["main"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["SwAV (long)", "SimSiam"]
    marker = look(study, "e2mc")[1]
    for axes in figure.axes:
        markers = [line.get_marker() for line in axes.lines]
        assert markers.count(marker) == 4  # linear raw and whitened, fine-tuning, SVM
        assert markers.count("x") == 1  # the paper's linear difference
    with pytest.raises(ValueError, match="no result of main can be compared"):
        gain_figure(study, collect([]), ["main"])
