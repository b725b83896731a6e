"""Own objectives against ER: numbers, verdicts, table and figure."""

from __future__ import annotations

import pytest

from e2mc.reporting.results import collect
from e2mc.reporting.stability import (
    CLAIM,
    Point,
    gain_in_stability,
    stability_csv,
    stability_figure,
    stability_markdown,
    stability_points,
    verdict,
)
from e2mc.study import Study

BYOL = {"hidden_dim": 8, "dim": 4, "ema": 0.9}


@pytest.fixture
def varied(study) -> Study:
    """BYOL at two batch sizes and two momenta, with its own objective and with ER; two seeds."""
    content = study.model_dump(mode="json")
    template = content["bases"]["simsiam"]
    for objective in ("own", "er"):
        for name, batch, ema in (("small", 16, 0.9), ("large", 64, 0.9), ("slow", 64, 0.5)):
            params = BYOL | {"ema": ema, "objective": objective}
            content["bases"][f"byol-{objective}-{name}"] = template | {
                "label": f"BYOL {name}",
                "method": {"name": "byol", "params": params},
                "pretraining": template["pretraining"] | {"batch_size": batch},
            }
    content["seeds"]["base"] = [0, 1]
    content["stability"] = {
        "column": "linear_1",
        "batch_size": [f"byol-{o}-{n}" for o in ("own", "er") for n in ("large", "small")],
        "ema": [f"byol-{o}-{n}" for o in ("own", "er") for n in ("large", "slow")],
    }
    return Study.model_validate(content)


def score(run, paradigm, features):
    """Small batches cost the own objective 10 points and ER 2; momenta cost both 3."""
    cost = {"small": 10 if "own" in run.base else 2, "large": 0, "slow": 3}
    # the seeds differ a little, also in what a small batch costs
    wobble = 0.1 * run.base_seed * ("small" in run.base) * ("own" in run.base)
    return 80 + run.base_seed - cost[run.base.split("-")[-1]] + wobble


@pytest.fixture
def points(varied, write_results):
    runs = varied.stability_runs()
    results = collect(write_results(score, runs=runs, columns=["linear_1"], study="tiny"))
    return stability_points(varied, results)


def test_points_are_sorted_by_axis_objective_and_value(points):
    assert [(p.axis, p.objective, p.value) for p in points] == [
        ("batch_size", "own", 16),
        ("batch_size", "own", 64),
        ("batch_size", "er", 16),
        ("batch_size", "er", 64),
        ("ema", "own", 0.5),
        ("ema", "own", 0.9),
        ("ema", "er", 0.5),
        ("ema", "er", 0.9),
    ]
    assert points[0].scores == pytest.approx({0: 70.0, 1: 71.1})


def test_gain_is_what_er_loses_less(points):
    gain = gain_in_stability(points, "batch_size", "byol")
    assert gain.mean == pytest.approx(7.95) and gain.n == 2 and gain.sign == 1
    same = gain_in_stability(points, "ema", "byol")
    assert same.mean == pytest.approx(0) and same.sign == 0
    assert gain_in_stability(points, "ema", "dino") is None


def test_verdict_says_it_in_words(points):
    first, second = verdict(points).splitlines()
    assert first == (
        "- BYOL, batch size: from the largest to the smallest, the own objective loses 9.95 points "
        "and ER loses 2.00 points (ER − own: +7.95): the claim holds (n = 2)."
    )
    assert "EMA coefficient" in second and "within noise" in second
    one = [type(p)(**{**vars(p), "scores": {0: p.scores[0]}}) for p in points]
    assert "one seed, hence no verdict (n = 1)" in verdict(one)


@pytest.mark.parametrize(
    ("own", "er", "words"),
    [
        (-2.1, -1.2, "gains 2.05 points and ER gains 1.20 points (ER − own: −0.85): neither loses"),
        (-1.2, 0.9, "gains 1.15 points and ER loses 0.90 points (ER − own: −2.05): the claim does"),
        (1.2, -0.9, "loses 1.25 points and ER gains 0.90 points (ER − own: +2.15): the claim hold"),
        (1.2, 3.9, "loses 1.25 points and ER loses 3.90 points (ER − own: −2.65): the claim does "),
    ],
)
def test_verdict_tells_gains_from_losses(own, er, words):
    points = [
        Point("ema", "byol", objective, value, "", {0: score, 1: score - wobble})
        for objective, loss in (("own", own), ("er", er))
        for value, score, wobble in ((0.5, 80 - loss, 0.1 * (objective == "own")), (0.9, 80, 0))
    ]
    [line] = verdict(points).splitlines()
    assert f"smallest, the own objective {words}" in line


def test_markdown_has_the_claim_and_every_number(varied, points):
    text = stability_markdown(varied, points)
    assert CLAIM in text and "linear 1 %" in text
    assert "| method | objective | 16 | 64 |" in text
    assert "| BYOL | own | 70.55 ± 0.78 | 80.50 ± 0.71 |" in text
    assert "| BYOL | ER | 78.50 ± 0.71 | 80.50 ± 0.71 |" in text
    assert "| method | objective | 0.5 | 0.9 |" in text


def test_csv_has_one_row_per_point(points):
    lines = stability_csv(points).splitlines()
    assert lines[0] == "axis,method,objective,value,base,mean,std,n"
    assert len(lines) == 9 and lines[1].startswith("batch_size,byol,own,16,byol-own-small,70.55,")


def test_figure_has_a_curve_per_objective_and_panel(varied, points):
    figure = stability_figure(varied, points)
    for axes, name in zip(figure.axes, ("batch size", "EMA coefficient"), strict=True):
        assert axes.get_xlabel() == name
        assert len(axes.containers) == 2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["BYOL", "own objective", "ER"]


def test_one_axis_is_enough(varied, points):
    batches = [point for point in points if point.axis == "batch_size"]
    assert [axes.get_xlabel() for axes in stability_figure(varied, batches).axes] == ["batch size"]
    assert "EMA" not in stability_markdown(varied, batches).replace(CLAIM, "")


def test_missing_results_are_named(study, varied):
    with pytest.raises(ValueError, match="no stability: add the key"):
        stability_points(study, collect([]))
    with pytest.raises(ValueError, match="no result of tiny is of stability.column linear_1"):
        stability_points(varied, collect([]))
