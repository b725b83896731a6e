"""How estimates of entropies fail with dimensions, on few points."""

import math
import re

import pandas as pd
import pytest
from pages import DOCS

from e2mc.reporting import estimators
from e2mc.reporting.estimators import ESTIMATORS, estimator_errors, estimators_figure


@pytest.fixture(scope="module")
def errors():
    return estimator_errors((64, 256), (1, 8, 64))


def of(errors, **wanted):
    for name, value in wanted.items():
        errors = errors[errors[name] == value]
    return errors


def test_every_estimate_is_there_with_its_own_truth(errors):
    assert len(errors) == 2 * 2 * 3 * 4 * 4
    assert (errors["error"] == errors["estimate"] - errors["truth"])[
        errors["estimate"].notna()
    ].all()
    assert set(of(errors, of="marginal")["estimator"]) == {"m-spacings"}
    alone = of(errors, dependence="independent")
    assert alone.groupby(["law"])["truth"].nunique().eq(1).all()  # joint over d = marginal
    chained = of(errors, dependence="correlated", dimensions=64, law="normal", points=64)
    truths = chained.set_index("estimator")["truth"]
    gap = -63 / 128 * math.log(1 - 0.81)
    assert truths["m-spacings"] - truths["kernel density"] == pytest.approx(gap)


def test_a_covariance_without_inverse_gives_no_estimate(errors):
    missing = errors[errors["estimate"].isna()]
    assert set(missing["estimator"]) == {"Gaussian"}
    assert (missing["points"] <= missing["dimensions"]).all() and len(missing) == 8


def test_joint_estimates_fail_with_dimensions_and_marginal_ones_do_not(errors):
    size = errors.assign(error=errors["error"].abs())
    size = of(size, law="uniform", dependence="independent", points=256)
    size = size.pivot(index="dimensions", columns="estimator", values="error")
    for name in ("nearest neighbour", "kernel density"):
        assert size.loc[64, name] > 3 * size.loc[1, name]
    assert size["m-spacings"].max() < 0.05


def test_figure_has_a_panel_per_size_and_dependence(errors):
    panels = estimators_figure(errors).axes
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [
        f"{dependence} coordinates, N = {n}"
        for n in (64, 256)
        for dependence in ("independent", "correlated")
    ]
    # a line per estimator and law, and where coordinates depend the distance of the truths
    assert [len(axes.lines) for axes in panels] == [16, 17, 16, 17]


def test_files_are_the_same_when_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(estimators, "POINTS", (32,))
    monkeypatch.setattr(estimators, "DIMENSIONS", (1, 4))
    made = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        names = ("estimators.csv", "estimators.png", "estimators.pdf")
        ESTIMATORS.make(None, {}, {name: tmp_path / folder / name for name in names})
        made.append([(tmp_path / folder / name).read_bytes() for name in names])
    assert made[0] == made[1]


def test_page_shows_what_was_measured():
    measured = pd.read_csv(DOCS / "estimators.csv")
    assert len(measured) == 2 * len(estimators.POINTS) * len(estimators.DIMENSIONS) * 4 * 4
    uniform = of(measured, law="uniform", points=4096)
    shown = re.findall(
        r"^\| (\d+) \| (\w+) \| (.*) \|$", (DOCS / "estimators.md").read_text(), re.M
    )
    assert len(shown) == 7
    for d, dependence, cells in shown:
        row = of(uniform, dimensions=int(d), dependence=dependence).set_index("estimator")["error"]
        wanted = [f"{row[name]:+.3f}".replace("-", "\u2212") for name in estimators.LOOKS]
        assert cells.split(" | ") == wanted
