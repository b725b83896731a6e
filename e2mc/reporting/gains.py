"""What each criterion gains over its reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from e2mc.errors import InputError
from e2mc.reporting.cells import main_table_results
from e2mc.reporting.entries import Entry, table_entries
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, missing_main_tables
from e2mc.reporting.results import collect, select
from e2mc.reporting.style import GREY, INK, PALE, WIDTH, look, save_figure, style
from e2mc.reporting.verdict import plain_label
from e2mc.study import BASE_ARM, Study


def gain_figure(study: Study, results: pd.DataFrame, table_names: Sequence[str]) -> Figure:
    """Forest plot: each criterion's paired difference to its reference, base by base.

    Filled markers are raw features, open ones whitened; lines are 95 % t intervals; a cross is the
    paper's difference. Beyond noise is where the line does not touch 0.

    Args:
        study: how bases, arms and columns are called.
        results: what ``collect`` returns.
        table_names: the tables whose cells are shown, each cell once.

    Raises:
        ValueError: when the results hold no difference.
    """
    entries: dict[tuple[str, str, str, str], Entry] = {}
    for name in table_names:
        table = study.tables[name]
        kept = select(study, results, table.rows, table.columns, study.seeds.continuation)
        for entry in table_entries(study, name, kept):
            if entry.difference and entry.arm != "continued":
                entries.setdefault((entry.base, entry.arm, entry.column, entry.features), entry)
    if not entries:
        raise InputError(
            f"no result of {', '.join(table_names)} can be compared with its reference"
        )
    bases = [base for base in study.bases if any(key[0] == base for key in entries)]
    groups = {base: [e for e in entries.values() if e.base == base] for base in bases}
    lines = {base: _lines(group) for base, group in groups.items()}
    with style():
        heights = [max(places.values()) + 1 for places in lines.values()]
        figure = Figure(
            figsize=(WIDTH, 0.8 + 0.06 * sum(heights) + 0.3 * len(bases)), layout="constrained"
        )
        panels = figure.subplots(
            len(bases), 1, sharex=True, squeeze=False, height_ratios=heights
        ).ravel()
        for axes, base in zip(panels, bases, strict=True):
            _forest(axes, study, groups[base], lines[base])
            axes.set_title(study.bases[base].label)
        panels[-1].set_xlabel("difference to continued pre-training, points")
        _gain_legend(figure, study, list(entries.values()))
    return figure


def _lines(entries: Sequence[Entry]) -> dict[tuple[str, str, str], int]:
    """(column, arm, features) -> line of the panel from the top, with a free line per column."""
    places: dict[tuple[str, str, str], int] = {}
    line = -1
    for column in dict.fromkeys(entry.column for entry in entries):
        of_column = [entry for entry in entries if entry.column == column]
        line += 1
        for entry in of_column:
            places[column, entry.arm, entry.features] = line
            line += 1
    return places


def _forest(
    axes: Axes, study: Study, entries: Sequence[Entry], places: dict[tuple[str, str, str], int]
) -> None:
    axes.axvline(0, color=INK, lw=0.6, zorder=0)
    for entry in entries:
        y = places[entry.column, entry.arm, entry.features]
        difference = entry.compared
        colour, marker = look(study, entry.arm)
        axes.plot([difference.low, difference.high], [y, y], color=colour, lw=0.9)
        fill = colour if entry.features == "raw" else "white"
        axes.plot(difference.mean, y, marker, color=colour, mfc=fill, mew=0.7)
        if entry.published_difference is not None:
            axes.plot(entry.published_difference, y, "x", color=GREY, ms=3.5, mew=0.9)
    columns = list(dict.fromkeys(entry.column for entry in entries))
    centres = [np.mean([y for key, y in places.items() if key[0] == column]) for column in columns]
    axes.set_yticks(centres, [_column_label(study, entries, column) for column in columns])
    axes.set_ylim(max(places.values()) + 1, -1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, lw=0.4)
    axes.set_axisbelow(True)


def _column_label(study: Study, entries: Sequence[Entry], column: str) -> str:
    """A column, and that its differences are to the base where they are."""
    to_base = any(e.reference == BASE_ARM for e in entries if e.column == column)
    return f"{study.paradigms[column].label}{', to base' if to_base else ''}"


def _gain_legend(figure: Figure, study: Study, entries: Sequence[Entry]) -> None:
    handles = []
    for arm in dict.fromkeys(entry.arm for entry in entries):
        colour, marker = look(study, arm)
        label = plain_label(study, arm)
        handles.append(Line2D([], [], color=colour, marker=marker, lw=0.9, label=label))
    if any(entry.features == "whitened" for entry in entries):
        handles.append(
            Line2D([], [], ls="", marker="o", color=INK, mfc="white", label="whitened features")
        )
    if any(entry.published_difference is not None for entry in entries):
        handles.append(Line2D([], [], ls="", marker="x", color=GREY, label="the paper"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    figure = gain_figure(study, collect(inputs["results"]), study.main_tables)
    save_figure(figure, outputs, "gains")


GAINS = Part(
    name="gains",
    reads=lambda study: {"results": main_table_results(study)},
    writes=lambda study: figure_files("gains", "gain over continued"),
    make=_make,
    caption="gains.rst",
    lacking=missing_main_tables,
    rests_on=("reporting/published.csv",),
)
