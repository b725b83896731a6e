"""Figures from result files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2mc.reporting.statistics import Difference, cell, run_scores
from e2mc.reporting.style import RC, colours
from e2mc.state import atomic_path
from e2mc.study import BASE_ARM, Study


def save_figure(figure: Figure, stem: Path) -> None:
    """Writes ``<stem>.pdf`` and ``<stem>.png``, the same bytes for the same figure."""
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with atomic_path(stem.with_suffix(f".{kind}")) as temporary, matplotlib.rc_context(RC):
            figure.savefig(temporary, format=kind, metadata=metadata)


def separability_figure(study: Study, records: list[dict[str, Any]]) -> Figure:
    """Embedding separability under each criterion, in three panels.

    Args:
        study: gives the arms and their labels.
        records: the contents of the separability result files.
    """
    arms = [arm for arm in study.separability.arms if any(r["arm"] == arm for r in records)]
    colour = colours(arms)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(10, 3.3))
        axes = figure.subplots(1, 3)
        for arm in arms:
            mine = [record for record in records if record["arm"] == arm]
            label = study.arm_label(arm)
            _histograms(axes[0], mine, colour[arm], label)
            _capacity(axes[2], mine, colour[arm], label)
        _separations(axes[1], study, arms, records, colour)
        curve = records[0]["details"]["labelings"]
        axes[2].plot(curve["n_over_d"], curve["cover"], "--", color="0.5", label="Cover, no margin")
        axes[0].set(
            title="(a) cosine similarity of pairs",
            xlabel="cosine similarity (solid: one class, dotted: two)",
            ylabel="density",
        )
        axes[0].legend(title="AUC", title_fontsize=8)
        axes[1].set(title="(b) class separation R²", xlabel="R²")
        axes[2].set(
            title=f"(c) random labelings with margin ≥ {curve['margin']:g}",
            xlabel="points per dimension n / d",
            ylabel="share linearly separable",
            ylim=(-0.03, 1.03),
        )
        axes[2].legend()
        base = study.bases[study.separability.base].label
        figure.suptitle(f"Separability of the features, {base}, {study.title}", fontsize=10)
        return figure


def gain_figure(study: Study, results: pd.DataFrame, tables: Iterable[str]) -> Figure:
    """Paired difference of every criterion to continued pre-training, per base and paradigm.

    Args:
        study: gives rows, columns and labels.
        results: collected results.
        tables: names of the tables whose cells are shown.
    """
    groups = _gains(study, results, tables)
    colour = colours(dict.fromkeys(arm for found in groups.values() for _, arm, _ in found))
    height = 0.9 + sum(0.6 + 0.17 * len(found) for found in groups.values())
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6.5, height))
        panels = figure.subplots(
            len(groups),
            1,
            sharex=True,
            squeeze=False,
            height_ratios=[0.6 + 0.17 * len(found) for found in groups.values()],
        )[:, 0]
        for axes, (base, found) in zip(panels, groups.items(), strict=True):
            _forest(axes, study, found, colour)
            axes.set_title(study.bases[base].label, loc="left")
        panels[-1].set_xlabel("difference to continued pre-training, points, with 95 % interval")
        handles = [
            matplotlib.lines.Line2D([], [], marker="o", color=c, label=study.arm_label(arm))
            for arm, c in colour.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
        return figure


def _histograms(axes: Axes, records: list[dict], colour: str, label: str) -> None:
    edges = np.asarray(records[0]["details"]["cosine"]["edges"])
    middles = (edges[1:] + edges[:-1]) / 2
    label = f"{label} {np.mean(_values(records, 'auc')):.3f}"
    for kind, style in (("within", "-"), ("between", ":")):
        density = np.mean([record["details"]["cosine"][kind] for record in records], axis=0)
        axes.plot(middles, density, style, color=colour, label=label if kind == "within" else None)


def _separations(
    axes: Axes, study: Study, arms: list[str], records: list[dict], colour: dict[str, str]
) -> None:
    for place, arm in enumerate(arms):
        values = _values([record for record in records if record["arm"] == arm], "class_r2")
        axes.plot(values, [place] * len(values), "o", color=colour[arm], alpha=0.7, mew=0)
        axes.plot(np.mean(values), place, "|", color=colour[arm], ms=14, mew=2)
    axes.set_yticks(range(len(arms)), [study.arm_label(arm) for arm in arms])
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9")


def _capacity(axes: Axes, records: list[dict], colour: str, label: str) -> None:
    curves = [record["details"]["labelings"] for record in records]
    share = np.mean([curve["share_with_margin"] for curve in curves], axis=0)
    axes.plot(curves[0]["n_over_d"], share, ".-", color=colour, label=label)


def _values(records: list[dict], metric: str) -> list[float]:
    scores = [score for record in records for score in record["scores"]]
    return [score["value"] for score in scores if score["metric"] == metric]


Gain = tuple[str, str, Difference]


def _gains(study: Study, results: pd.DataFrame, tables: Iterable[str]) -> dict[str, list[Gain]]:
    """base -> (paradigm, arm, difference), each once, in the order of the tables."""
    found: dict[str, dict[tuple[str, str], Difference]] = {}
    for name in tables:
        table = study.tables[name]
        for column in table.columns:
            scores = run_scores(study, results, column)
            for row in table.rows:
                for arm in row.arms:
                    item = cell(study, scores, row.base, arm)
                    if arm in (BASE_ARM, "continued") or item is None or item.difference is None:
                        continue
                    found.setdefault(row.base, {})[column, arm] = item.difference
    order = list(study.paradigms)
    return {
        base: sorted(
            ((column, arm, difference) for (column, arm), difference in items.items()),
            key=lambda gain: order.index(gain[0]),
        )
        for base, items in found.items()
    }


def _forest(axes: Axes, study: Study, found: list[Gain], colour: dict[str, str]) -> None:
    places: dict[str, list[int]] = {}
    for place, (column, arm, difference) in enumerate(found):
        places.setdefault(column, []).append(place)
        axes.plot(difference.mean, place, "o", color=colour[arm], ms=4)
        axes.hlines(place, difference.low, difference.high, color=colour[arm])
    axes.axvline(0, color="0.6", lw=0.8)
    ticks = [float(np.mean(rows)) for rows in places.values()]
    axes.set_yticks(ticks, [study.paradigms[column].label for column in places])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9")
