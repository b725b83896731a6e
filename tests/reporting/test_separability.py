from __future__ import annotations

import pytest

from e2mc.reporting.separability import separability_figure


def test_separability_has_three_panels_with_every_arm(study, measured):
    rows, dots, curves = separability_figure(study, measured).axes
    assert [label.get_text() for label in rows.get_yticklabels()] == ["base", "continued", "+ E2MC"]
    assert [text.get_text() for text in rows.texts] == ["AUC 0.900"] * 3
    seeds = [len(line.get_xdata()) for line in dots.lines if line.get_marker() not in ("None", "")]
    assert seeds == [1, 2, 2]
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert labels == ["Cover's count", "any margin", "margin ≥ 0.1"]


def test_separability_needs_a_result_of_its_base(study, measured):
    with pytest.raises(ValueError, match="no separability result of swav_long"):
        separability_figure(study, [{**record, "base": "simsiam"} for record in measured])
