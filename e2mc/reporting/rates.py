"""Is it the probe's rate? Differences between arms against the learning rate of linear heads."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from e2mc.reporting import layout
from e2mc.reporting.layout import Block, Cell, Group, Row, difference_cell
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, missing_key, table_files
from e2mc.reporting.rate_factor import FACTOR_COLUMNS, Explained, explained, factors_in_words
from e2mc.reporting.rate_points import Place, Point, by_curve, rate_points
from e2mc.reporting.results import read_result
from e2mc.reporting.statistics import LEVEL
from e2mc.reporting.style import INK, PALE, WIDTH, save_figure, style
from e2mc.reporting.verdict import plain_label
from e2mc.study import Study

# kind of features -> colour and marker (Okabe and Ito 2008)
LOOKS = {"raw": ("#D55E00", "D"), "standardised": ("#0072B2", "s"), "whitened": ("#009E73", "^")}
# letters that have room in a line: above all panels of a row together, and along its side
ABOVE, BESIDE = 40, 17


# --- in words ---


def rates_in_words(study: Study, points: Sequence[Point]) -> str:
    """A sentence for each arm: whether any sign of its difference depends on the rate."""
    sentences = []
    for arm in dict.fromkeys(point.arm for point in points):
        of_arm = [point for point in points if point.arm == arm and not point.own]
        sentences.append(_sentence(study, _name(study, of_arm[0]), of_arm))
    return " ".join(sentences)


def _name(study: Study, point: Point) -> str:
    """What the difference is called."""
    return f"{plain_label(study, point.arm)} − {plain_label(study, point.reference)}"


def _sentence(study: Study, name: str, points: Sequence[Point]) -> str:
    curves = list(by_curve(points).values())
    known = [[p for p in curve if p.sign is not None] for curve in curves]
    known = [curve for curve in known if curve]
    if not known:
        return (
            f"Whether a sign of {name} depends on the head's learning rate cannot be told from "
            "noise: there is one pair of runs each."
        )
    signs = [{point.sign for point in curve} for curve in known]
    both = [curve for curve, found in zip(known, signs, strict=True) if found >= {1, -1}]
    if not both:
        above, below = (sum(sign in found for found in signs) for sign in (1, -1))
        return (
            f"No sign of {name} depends on the head's learning rate: none of {len(known)} curves "
            "has an interval above 0 at one rate and one below at another "
            f"({above} above at some rate, {below} below at some, "
            f"{len(known) - above - below} within noise at all)."
        )
    chance = sum(_chance_of_both(len(curve)) for curve in known)
    named = [_both_signs(study, curve) for curve in both[:3]]
    more = [f"{len(both) - 3} more"] if len(both) > 3 else []
    return (
        f"The sign of {name} depends on the head's learning rate in {len(both)} of {len(known)} "
        "curves, which have an interval above 0 at one rate and one below at another; chance alone "
        f"would make at most about {chance:.2g} such curves: {'; '.join(named + more)}."
    )


def _chance_of_both(rates: int) -> float:
    """That independent intervals lie above 0 at one rate and below at another, without an effect.

    Those of one curve are alike, so it is less likely.
    """
    one_side = (1 - LEVEL) / 2
    return 1 - 2 * (1 - one_side) ** rates + LEVEL**rates


def _both_signs(study: Study, curve: Sequence[Point]) -> str:
    first = curve[0]
    where = f"{study.bases[first.base].label}, {study.paradigms[first.column].label}"
    up, down = (
        ", ".join(f"{point.rate:g}" for point in curve if point.sign == sign) for sign in (1, -1)
    )
    return f"{where}, {first.features} (above at {up}, below at {down})"


# --- as a table ---


def rates_table(
    study: Study, points: Sequence[Point], factors: Sequence[Explained], kind: str
) -> str:
    """The differences by rate as a document: "md", "tex" or "html"."""
    write = layout.DOCUMENTS[kind]
    title = f"Differences by the learning rate of the head: {study.title}"
    words = f"{rates_in_words(study, points)} {factors_in_words(factors)}"
    return write(title, _blocks(study, points), words, _notes(points))


def _blocks(study: Study, points: Sequence[Point]) -> list[Block]:
    """One per column, or more where bases have other rates."""
    alike: dict[tuple[str, tuple[tuple[float, bool], ...]], dict[Place, list[Point]]] = {}
    for place, curve in by_curve(points).items():
        rates = tuple((point.rate, point.fixed) for point in curve if not point.own)
        alike.setdefault((place[2], rates), {})[place] = curve
    blocks = []
    for (column, rates), curves in alike.items():
        headings = [f"{rate:g}{' (fixed)' if fixed else ''}" for rate, fixed in rates]
        own = any(point.own for curve in curves.values() for point in curve)
        groups = [
            Group(
                f"{study.bases[base].label}, {_name(study, of_group[0][0])}",
                tuple(Row(curve[0].features, _cells(curve)) for curve in of_group),
            )
            for (base, _), of_group in _groups(curves).items()
        ]
        title = f"{study.paradigms[column].label}, by learning rate"
        blocks.append(Block(title, (*headings, *(["chosen"] if own else [])), tuple(groups)))
    return blocks


def _groups(curves: Mapping[Place, list[Point]]) -> dict[tuple[str, str], list[list[Point]]]:
    """The curves of each base and arm."""
    groups: dict[tuple[str, str], list[list[Point]]] = {}
    for (base, arm, _, _), curve in curves.items():
        groups.setdefault((base, arm), []).append(curve)
    return groups


def _cells(curve: Sequence[Point]) -> tuple[Cell, ...]:
    most = max((p.share for p in curve if not p.own), default=math.nan)
    cells = []
    for point in curve:
        if point.difference is None:
            cells.append(Cell("diverged", missing=True))
            continue
        cell = difference_cell(point.difference)
        bold = not point.own and point.share == most
        cells.append(Cell(cell.text, bold=bold, clear=cell.clear, hint=cell.hint))
    return tuple(cells)


def _notes(points: Sequence[Point]) -> tuple[str, ...]:
    notes = [
        "Points of top-1 accuracy on the test images after the last epoch, paired seed by seed, "
        "each run the mean over its label subsets. ▲ above and ▼ below: the 95 % t interval "
        "excludes 0. ≈ within noise: it contains 0. ? one pair, no interval. They are not "
        "corrected for the number of comparisons.",
        "Nothing is chosen from these heads: the cells of other tables keep their rate.",
        "Standardised: every feature with mean 0 and variance 1; whitened: as in the other tables. "
        "Both by the training features of the column's data set, without labels.",
        "(fixed): the only rate of the column's protocol; where it chooses among several, that of "
        "the published protocol.",
    ]
    if any(point.own for point in points):
        notes.append(
            "Chosen: each run at the rate that it chose on the validation images. Bold: the rate "
            "that most of them chose."
        )
    return tuple(notes)


# --- as a figure ---


def rates_figure(study: Study, points: Sequence[Point]) -> Figure:
    """A row of panels per base and arm, a panel per column, a curve per kind of features.

    Bars are 95 % t intervals, cut off where the panel ends. Dotted: the fixed rate; rings: the rate
    that most runs chose on the validation images.

    Args:
        study: how bases, arms and columns are called.
        points: from ``rate_points``.
    """
    rows = list(dict.fromkeys((point.base, point.arm) for point in points))
    columns = list(dict.fromkeys(point.column for point in points))
    names = list(dict.fromkeys(_name(study, point) for point in points))
    sentence = textwrap.fill(rates_in_words(study, points), 84)
    with style():
        height = 1.1 + 0.85 * len(rows) + 0.1 * sentence.count("\n")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(
            len(rows), len(columns), squeeze=False, sharey="row", sharex=_shared(points)
        )
        for i, (base, arm) in enumerate(rows):
            of_row = [point for point in points if point.curve[:2] == (base, arm)]
            for axes, column in zip(panels[i], columns, strict=True):
                _panel(axes, [point for point in of_row if point.column == column])
            of_label = [study.bases[base].label]
            if len(names) > 1:
                of_label.append(_name(study, of_row[0]))
            lines = [textwrap.fill(part, BESIDE) for part in of_label]
            panels[i][0].set_ylabel("\n".join(lines), size=6.5)
            _cut(panels[i][0], of_row)
        for axes, column in zip(panels[0], columns, strict=True):
            label = textwrap.fill(study.paradigms[column].label, ABOVE // len(columns))
            axes.set_title(label)
        for axes in panels[-1]:
            axes.set_xlabel("learning rate")
        figure.supxlabel(sentence, x=0.01, ha="left", size=5.5)
        figure.legend(
            handles=_handles(points),
            loc="outside upper left",
            ncols=3,
            title=f"{names[0] if len(names) == 1 else 'difference to the reference'}, points",
            title_fontproperties={"weight": "bold", "size": 9},
            alignment="left",
        )
    return figure


def _shared(points: Sequence[Point]) -> Literal["col", "none"]:
    """Whether all panels of a column have the same rates."""
    rates: dict[str, set[frozenset[float]]] = {}
    for place, curve in by_curve(points).items():
        rates.setdefault(place[2], set()).add(frozenset(p.rate for p in curve if not p.own))
    return "col" if all(len(found) == 1 for found in rates.values()) else "none"


def _panel(axes: Axes, points: Sequence[Point]) -> None:
    axes.axhline(0, color=INK, lw=0.6, zorder=0)
    for fixed in {point.rate for point in points if point.fixed}:
        axes.axvline(fixed, color=INK, lw=0.7, ls=":", zorder=0)
    for i, (_, curve) in enumerate(by_curve(points).items()):
        curve = [point for point in curve if not point.own and point.difference]
        colour, marker = LOOKS[curve[0].features]
        # side by side, so that no bar hides another
        x = np.array([point.rate for point in curve]) * 1.15 ** (i - 1)
        apart = [point.difference for point in curve if point.difference]
        means = np.array([one.mean for one in apart])
        axes.plot(x, means, color=colour, marker=marker, ms=2, lw=0.9)
        axes.vlines(x, [one.low for one in apart], [one.high for one in apart], colour, lw=0.6)
        most = max(point.share for point in curve)
        chosen = [point.share == most for point in curve]
        axes.plot(x[chosen], means[chosen], "o", mec=colour, mfc="none", ms=6, mew=0.8)
    axes.set_xscale("log")
    axes.xaxis.minorticks_off()
    axes.grid(axis="y", color=PALE, lw=0.4)
    axes.set_axisbelow(True)


def _cut(axes: Axes, points: Sequence[Point]) -> None:
    """Shows every mean and the intervals of usual width: few seeds make some that hide the rest."""
    apart = [point.difference for point in points if point.difference]
    widths = [one.high - one.mean for one in apart if not math.isnan(one.high)]
    room = max(1.5 * float(np.median(widths)), 0.1) if widths else 0.1
    means = [one.mean for one in apart]
    axes.set_ylim(min(*means, 0.0) - room, max(*means, 0.0) + room)


def _handles(points: Sequence[Point]) -> list[Line2D]:
    kinds = [kind for kind in LOOKS if any(point.features == kind for point in points)]
    handles = [
        Line2D([], [], color=LOOKS[kind][0], marker=LOOKS[kind][1], label=kind) for kind in kinds
    ]
    handles.append(Line2D([], [], color=INK, ls=":", lw=0.9, label="fixed rate"))
    if any(point.own for point in points):
        handles.append(
            Line2D([], [], ls="", marker="o", ms=6, mec=INK, mfc="none", label="most chosen")
        )
    return handles


def _reads(study: Study) -> Inputs:
    assert study.rates is not None
    runs = study.runs(study.rates.rows)
    return {"results": [study.result_path(r, name) for r in runs for name in study.rates.columns]}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    records = [read_result(path) for path in inputs["results"]]
    points = rate_points(study, records)
    frame = pd.DataFrame([point.flat() for point in points])
    text = frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    outputs["rates.csv"].write_text(text, encoding="utf-8")
    factors = explained(study, records)
    frame = pd.DataFrame([one.flat() for one in factors], columns=FACTOR_COLUMNS)
    text = frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    outputs["rate_factors.csv"].write_text(text, encoding="utf-8")
    for kind in layout.DOCUMENTS:
        text = rates_table(study, points, factors, kind)
        outputs[f"rates.{kind}"].write_text(text, encoding="utf-8")
    save_figure(rates_figure(study, points), outputs, "rates")


RATES = Part(
    name="rates",
    reads=_reads,
    writes=lambda study: (
        table_files("rates", "rates, in numbers")
        | {"tables/rate_factors.csv": ""}
        | figure_files("rates", "rates of the head")
    ),
    make=_make,
    caption="rates.rst",
    lacking=lambda study: missing_key(study, "rates"),
)
