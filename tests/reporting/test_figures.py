from __future__ import annotations

import numpy as np
import pytest

from e2mc.reporting.figures import gain_figure, save_figure, separability_figure
from e2mc.reporting.results import collect
from e2mc.reporting.style import COLOURS, look


@pytest.fixture
def records():
    """Separability results with a shape that is easy to see."""
    found = []
    ratios = [0.5, 1.0, 1.5, 2.0, 2.5]
    edges = np.linspace(-1, 1, 21)
    for arm, seeds in (("base", [None]), ("continued", [0, 1]), ("e2mc", [0, 1])):
        for seed in seeds:
            density = np.exp(-((edges[:-1] - 0.3) ** 2) / 0.05)
            found.append(
                {
                    "base": "swav_long",
                    "arm": arm,
                    "paradigm": "separability",
                    "scores": [
                        {"metric": "auc", "value": 0.9},
                        {"metric": "class_r2", "value": 0.3 + (seed or 0) / 100},
                    ],
                    "details": {
                        "cosine": {
                            "edges": edges.tolist(),
                            "within": density.tolist(),
                            "between": density[::-1].tolist(),
                        },
                        "labelings": {
                            "n_over_d": ratios,
                            "share": [1, 1, 1, 0.5, 0],
                            "share_with_margin": [1, 1, 0.4, 0, 0],
                            "cover": [1, 1, 0.99, 0.5, 0.02],
                            "margin": 0.1,
                        },
                    },
                }
            )
    return found


def test_separability_has_three_panels_with_every_arm(study, records):
    rows, dots, curves = separability_figure(study, records).axes
    assert [label.get_text() for label in rows.get_yticklabels()] == ["base", "continued", "+ E2MC"]
    assert [text.get_text() for text in rows.texts] == ["AUC 0.900"] * 3
    seeds = [len(line.get_xdata()) for line in dots.lines if line.get_marker() not in ("None", "")]
    assert seeds == [1, 2, 2]
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert labels == ["Cover's count", "any margin", "margin ≥ 0.1"]


def test_separability_needs_a_result_of_its_base(study, records):
    with pytest.raises(ValueError, match="no separability result of swav_long"):
        separability_figure(study, [{**record, "base": "simsiam"} for record in records])


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


def test_files_are_the_same_bytes_each_time(study, records, tmp_path):
    for name in ("first", "second"):
        save_figure(separability_figure(study, records), tmp_path / name)
    for kind, start in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        first, second = (tmp_path / f"{name}.{kind}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes().startswith(start)


def test_arms_look_different(study):
    looks = [look(study, arm) for arm in ("base", *study.arms)]
    assert len(set(looks)) == len(looks)
    assert len(set(COLOURS.values())) == len(COLOURS)
