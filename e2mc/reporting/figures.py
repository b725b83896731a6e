"""Figures: how separable the features are, and what each criterion gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from e2mc.errors import InputError
from e2mc.reporting.entries import Entry, select, table_entries
from e2mc.reporting.results import records_by_arm, score_of
from e2mc.reporting.style import GREY, INK, PALE, WIDTH, look, style
from e2mc.reporting.verdict import plain_label

if TYPE_CHECKING:
    from e2mc.study import Study


def separability_figure(study: Study, records: Sequence[dict[str, Any]]) -> Figure:
    """Separability of one base's features, arm by arm.

    (a) Densities of the cosine similarity within and between classes, mean over seeds, with the
    AUC. (b) Class separation R², one dot per seed and a bar at the mean. (c) Share of random
    labelings that a hyperplane separates, against n / d: with any margin (dots, by Cover's theorem
    the same for all) and with a margin (lines).

    Args:
        study: which arms, and how they are called.
        records: result files of paradigm "separability", of any arms of the study.

    Raises:
        ValueError: when no record belongs to the arms of ``study.separability``.
    """
    by_arm = records_by_arm(study, records, "separability")
    with style():
        figure = Figure(figsize=(WIDTH, 2.6 + 0.3 * len(by_arm)), layout="constrained")
        figure.suptitle(
            study.bases[study.separability.base].label, x=0.01, ha="left", weight="bold", size=9
        )
        grid = figure.add_gridspec(
            2, 2, width_ratios=(1.7, 1), height_ratios=(0.3 * len(by_arm), 1.9)
        )
        rows = figure.add_subplot(grid[0, 0])
        _cosine_rows(rows, study, by_arm)
        _class_separation(figure.add_subplot(grid[0, 1], sharey=rows), study, by_arm)
        _labelings(figure.add_subplot(grid[1, :]), study, by_arm)
    return figure


def _cosine_rows(axes: Axes, study: Study, by_arm: dict[str, list[dict[str, Any]]]) -> None:
    densities = {
        arm: {
            kind: np.mean([r["details"]["cosine"][kind] for r in found], axis=0)
            for kind in ("within", "between")
        }
        for arm, found in by_arm.items()
    }
    tallest = max(float(curve.max()) for both in densities.values() for curve in both.values())
    for i, (arm, found) in enumerate(by_arm.items()):
        colour, _ = look(study, arm)
        edges = np.asarray(found[0]["details"]["cosine"]["edges"])
        bottom, height = -i - 0.4, 0.82 / tallest
        within, between = (bottom + height * densities[arm][k] for k in ("within", "between"))
        axes.stairs(within, edges, baseline=bottom, fill=True, color=colour, alpha=0.35, lw=0)
        axes.stairs(within, edges, baseline=None, color=colour, lw=0.8)
        axes.stairs(between, edges, baseline=None, color=INK, lw=0.7, ls=(0, (2.5, 1.2)))
        auc = np.mean([score_of(record, "auc") for record in found])
        axes.text(-0.98, bottom + 0.1, f"AUC {auc:.3f}", fontsize=6, va="bottom")
    axes.set(
        title="(a) cosine similarity",
        xlim=(-1, 1),
        ylim=(-len(by_arm) + 0.5, 0.55),
        xlabel="filled: within class\ndashed: between classes",
    )
    axes.set_yticks([-i for i in range(len(by_arm))], [study.arm_label(arm) for arm in by_arm])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _class_separation(axes: Axes, study: Study, by_arm: dict[str, list[dict[str, Any]]]) -> None:
    for i, (arm, found) in enumerate(by_arm.items()):
        colour, marker = look(study, arm)
        values = [score_of(record, "class_r2") for record in found]
        axes.axhline(-i, color=PALE, lw=0.5, zorder=0)
        axes.plot([np.mean(values)] * 2, [-i - 0.22, -i + 0.22], color=colour, lw=1)
        axes.plot(values, [-i] * len(values), marker, color=colour, alpha=0.8, mew=0)
    axes.set(title="(b) class R²", xlabel="1 − distance within\nclasses / overall")
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=3)
    axes.tick_params(axis="y", labelleft=False, length=0)
    axes.spines["left"].set_visible(False)


def _labelings(axes: Axes, study: Study, by_arm: dict[str, list[dict[str, Any]]]) -> None:
    first = next(iter(by_arm.values()))[0]["details"]["labelings"]
    axes.plot(first["n_over_d"], first["cover"], color=INK, lw=1, ls="--", zorder=1)
    for arm, found in by_arm.items():
        colour, marker = look(study, arm)
        curves = [record["details"]["labelings"] for record in found]
        x = curves[0]["n_over_d"]
        any_margin, with_margin = (
            np.mean([curve[share] for curve in curves], axis=0)
            for share in ("share", "share_with_margin")
        )
        axes.plot(x, any_margin, marker, color=colour, mfc="none", mew=0.6, ms=3)
        axes.plot(x, with_margin, "-", marker=marker, color=colour, ms=2.5, zorder=3)
    axes.set(
        title="(c) separable random labelings",
        xlabel="points per dimension, n / d",
        ylabel="share separable",
        ylim=(-0.03, 1.05),
    )
    legend = [Line2D([], [], color=INK, lw=1, ls="--", label="Cover's count")]
    legend.append(Line2D([], [], ls="", marker="o", color=INK, mfc="none", label="any margin"))
    margin = f"margin ≥ {first['margin']:g}"
    legend.append(Line2D([], [], color=INK, marker="o", ms=2.5, label=margin))
    axes.legend(handles=legend, loc="lower left")


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
    axes.set_yticks(centres, [study.paradigms[column].label for column in columns])
    axes.set_ylim(max(places.values()) + 1, -1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, lw=0.4)
    axes.set_axisbelow(True)


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


def save_figure(figure: Figure, path: Path) -> None:
    """Writes ``path``.pdf and ``path``.png, the same bytes for the same figure."""
    from e2mc.state import atomic_path  # needs torch, which drawing does not

    path = Path(path)
    nothing = {
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
        "png": {"Software": None},
    }
    for kind, metadata in nothing.items():
        with atomic_path(path.with_name(f"{path.name}.{kind}")) as temporary, style():
            figure.savefig(temporary, format=kind, metadata=metadata)
