"""Differences against the rate of the head: points, words, table and figure."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from e2mc.reporting.rate_points import rate_points
from e2mc.reporting.rates import rates_figure, rates_in_words, rates_table
from e2mc.study import Study

NOISE = (0.0, 0.1, -0.1)  # by continuation seed, in both arms and between them


@pytest.fixture
def shown(study) -> Study:
    """The tiny study, which compares both bases on one column."""
    pairs = [{"base": base, "arms": ["continued", "e2mc"]} for base in study.bases]
    content = study.model_dump(mode="json")
    content["rates"] = {"rows": pairs, "columns": ["linear_1"]}
    return Study.model_validate(content)


@pytest.fixture
def write(shown, rates_record):
    """Makes results in which E2MC gains ``gain(base, features, rate)`` points."""

    def write(gain, seeds=(0, 1, 2), of=shown, **settings):
        records = []
        for run in of.runs(of.rates.rows):
            if run.continuation_seed not in seeds:
                continue
            shift = 5 * NOISE[run.continuation_seed]

            def accuracy(kind, rate, run=run, shift=shift):
                more = gain(run.base, kind, rate) if run.arm == "e2mc" else 0.0
                if more is None:
                    return None
                apart = NOISE[run.continuation_seed] if run.arm == "e2mc" else 0.0
                return 70.0 + shift + apart + more

            records.append(rates_record(of, run, "linear_1", accuracy, **settings))
        return records

    return write


def flipping(base, kind, rate):
    """Above noise at a low rate and below at a high one, on raw features of one base."""
    if (base, kind) == ("swav_long", "raw"):
        return {0.03: 1.0, 0.3: 0.0, 3.0: -1.0}[rate]
    return 0.0


def test_points_are_paired_differences_by_rate(shown, write):
    points = rate_points(shown, write(flipping))
    assert len(points) == 2 * 3 * (3 + 1)  # bases x kinds of features x rates and the chosen
    curve = [p for p in points if p.curve == ("swav_long", "e2mc", "linear_1", "raw")]
    assert [p.rate for p in curve] == [0.03, 0.3, 3.0, 0.3]
    assert [p.own for p in curve] == [False, False, False, True]
    assert [p.fixed for p in curve] == [False, True, False, False]
    assert [p.share for p in curve] == [0.0, 1.0, 0.0, 1.0]
    assert [p.difference.mean for p in curve] == pytest.approx([1.0, 0.0, -1.0, 0.0])
    # three pairs whose differences are 0, 0.1 and -0.1 apart: t(2) 0.1 / sqrt(3)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert curve[0].difference.high - curve[0].difference.mean == pytest.approx(half, abs=1e-6)
    assert [p.sign for p in curve] == [1, 0, -1, 0]
    assert (curve[0].mean, curve[0].reference_mean) == pytest.approx((71.0, 70.0))
    row = curve[0].flat()
    assert (row["at"], row["learning_rate"], row["within_noise"]) == ("rate", "0.03", False)
    assert (row["reference"], row["difference_n"]) == ("continued", 3)


def test_a_run_is_the_mean_over_its_label_subsets_each_at_its_own_rate(shown, write):
    records = write(lambda *_: 0.0)
    for record in records:
        for of_kind in record["details"]["rates"]["features"].values():
            of_kind["test_top1"] = {"0": [1.0, 2.0, 3.0], "1": [5.0, 6.0, 7.0]}
            of_kind["validation_top1"] = {"0": [9.0, 8.0, 7.0], "1": [7.0, 8.0, 9.0]}
    points = [p for p in rate_points(shown, records) if p.curve[0] == "simsiam"][:4]
    assert [p.mean for p in points] == [3.0, 4.0, 5.0, (1.0 + 7.0) / 2]
    assert [p.share for p in points] == [0.5, 0.0, 0.5, 1.0]
    # of several equal ones the middle, as the scores choose
    for record in records:
        for of_kind in record["details"]["rates"]["features"].values():
            of_kind["validation_top1"] = {"0": [9.0, 9.0, 9.0], "1": [9.0, 9.0, 9.0]}
    assert [p.share for p in rate_points(shown, records)[:3]] == [0.0, 1.0, 0.0]


def test_one_sentence_says_whether_a_sign_depends_on_the_rate(shown, write):
    said = rates_in_words(shown, rate_points(shown, write(flipping)))
    assert said == (
        "The sign of E2MC − continued depends on the head's learning rate in 1 of 6 curves, which "
        "have an interval above 0 at one rate and one below at another; chance alone would make at "
        "most about 0.022 such curves: SwAV (long), linear 1 %, raw (above at 0.03, below at 3)."
    )
    low = rate_points(shown, write(lambda base, kind, rate: (base == "simsiam") * (rate < 0.1)))
    assert rates_in_words(shown, low) == (
        "No sign of E2MC − continued depends on the head's learning rate: none of 6 curves has an "
        "interval above 0 at one rate and one below at another (3 above at some rate, 0 below at "
        "some, 3 within noise at all)."
    )
    every = rate_points(shown, write(lambda base, kind, rate: -math.log10(rate)))
    assert "in 6 of 6 curves" in rates_in_words(shown, every)
    assert rates_in_words(shown, every).endswith("; 3 more.")


def test_the_sentence_is_decided_by_intervals_and_not_by_means(shown, write):
    slight = rate_points(shown, write(lambda base, kind, rate: -0.1 * math.log10(rate)))
    means = {p.difference.mean > 0 for p in slight if p.curve[0] == "simsiam"}
    assert means == {True, False}
    assert "6 within noise at all" in rates_in_words(shown, slight)


def test_one_pair_cannot_tell(shown, write):
    points = rate_points(shown, write(flipping, seeds=(0,)))
    assert rates_in_words(shown, points) == (
        "Whether a sign of E2MC − continued depends on the head's learning rate cannot be told "
        "from noise: there is one pair of runs each."
    )
    assert "+1.00 ?" in rates_table(shown, points, [], "md")
    rates_figure(shown, points)


def test_table_has_a_row_per_kind_of_features_and_marks_both_rates(shown, write):
    points = rate_points(shown, write(flipping))
    lines = rates_table(shown, points, [], "md").splitlines()
    [heading] = [line for line in lines if "(fixed)" in line and line.startswith("|")]
    assert heading.replace(" ", "") == "||0.03|0.3(fixed)|3|chosen|"
    begin = next(i for i, line in enumerate(lines) if "SwAV (long), E2MC − continued" in line)
    assert lines[begin + 1].replace(" ", "") == "|raw|+1.00▲|**0.00≈**|−1.00▼|0.00≈|"
    assert [line.split()[1] for line in lines[begin + 1 : begin + 4]] == [
        "raw",
        "standardised",
        "whitened",
    ]
    assert rates_in_words(shown, points) in "\n".join(lines)
    for kind in ("html", "tex"):
        assert "standardised" in rates_table(shown, points, [], kind)


def test_without_validation_images_nothing_is_chosen(shown, write):
    points = rate_points(shown, write(flipping, chosen=None))
    assert not any(point.own for point in points)
    table = rates_table(shown, points, [], "md")
    assert "chosen |" not in table and "validation" not in table and "**+" not in table
    figure = rates_figure(shown, points)
    assert "most chosen" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_rate_at_which_heads_diverge_is_said(shown, write):
    records = write(lambda base, kind, rate: None if (kind, rate) == ("raw", 3.0) else 0.0)
    points = rate_points(shown, records)
    assert [p.difference is None for p in points[:4]] == [False, False, True, False]
    assert "*diverged*" in rates_table(shown, points, [], "md")
    assert math.isnan(points[2].flat()["difference"])
    rates_figure(shown, points)


def test_bases_with_other_rates_have_a_table_each(shown, write):
    records = write(flipping)
    for record in records:
        if record["base"] == "simsiam":
            record["details"]["rates"] |= {"learning_rates": [0.2, 1.6, 16.0], "fixed": 1.6}
    points = rate_points(shown, records)
    headings = [
        line for line in rates_table(shown, points, [], "md").splitlines() if "(fixed)" in line
    ]
    assert [line.split("|")[3].strip() for line in headings if line.startswith("|")] == [
        "0.3 (fixed)",
        "1.6 (fixed)",
    ]
    panels = rates_figure(shown, points).axes
    assert panels[0].get_xlim() != panels[1].get_xlim()


def test_figure_shows_each_curve_the_fixed_rate_and_the_chosen_one(shown, write):
    figure = rates_figure(shown, rate_points(shown, write(flipping)))
    assert len(figure.axes) == 2
    axes = figure.axes[0]
    lines = {line.get_marker(): line for line in axes.lines if line.get_marker() in "Ds^"}
    assert list(lines["D"].get_ydata()) == pytest.approx([1.0, 0.0, -1.0])
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [0.3]
    rings = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(rings) == 3 and all(len(ring.get_xdata()) == 1 for ring in rings)
    assert axes.get_title(loc="left") == "linear 1 %"
    assert figure.legends[0].get_title().get_text() == "E2MC − continued, points"
    assert "The sign of E2MC" in figure.get_supxlabel()


def test_long_names_of_arms_stay_beside_their_row(shown, write):
    content = shown.model_dump(mode="json")
    content["arms"] |= {
        name: content["arms"]["e2mc"] | {"label": f"+ E2MC, a {name} weight of the covariance"}
        for name in ("tenfold", "hundredfold")
    }
    arms = ["continued", "tenfold", "hundredfold"]
    content["rates"]["rows"] = [{"base": base, "arms": arms} for base in shown.bases]
    longer = Study.model_validate(content)
    figure = rates_figure(longer, rate_points(longer, write(flipping, of=longer)))
    figure.draw_without_rendering()
    rows = [axes for axes in figure.axes if axes.get_ylabel()]
    assert len(rows) == 4
    spans = [axes.yaxis.label.get_window_extent().intervaly for axes in rows]
    assert all(above[0] > below[1] for above, below in itertools.pairwise(spans))


def test_long_names_of_columns_stay_above_their_panel(shown, write):
    names = ("few", "some", "more", "most")
    content = shown.model_dump(mode="json")
    content["paradigms"] |= {
        name: content["paradigms"]["linear_1"] | {"label": f"linear, {name} labels of each class"}
        for name in names
    }
    wider = Study.model_validate(content)
    points = [
        dataclasses.replace(point, column=name)
        for name in names
        for point in rate_points(shown, write(flipping))
    ]
    figure = rates_figure(wider, points)
    figure.draw_without_rendering()
    titles = [axes._left_title for axes in figure.axes if axes.get_title(loc="left")]
    assert len(titles) == 4
    spans = [title.get_window_extent().intervalx for title in titles]
    assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))


def test_results_without_such_heads_are_refused(shown, study):
    with pytest.raises(ValueError, match="no result has heads of several rates to compare"):
        rate_points(shown, [])
    with pytest.raises(ValueError, match="study tiny has no rates: add the key to its file"):
        rate_points(study, [])
