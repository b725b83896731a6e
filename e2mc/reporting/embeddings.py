"""What E2MC claims to change: marginals and correlations of the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from e2mc.reporting.layout import signed
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, left_out
from e2mc.reporting.results import ByArm, measurement_results, read_result, records_by_arm
from e2mc.reporting.style import INK, WIDTH, arm_handles, look, save_figure, style
from e2mc.study import Study


def embedding_figure(study: Study, records: Sequence[dict[str, Any]]) -> Figure:
    """Marginals of the embeddings' coordinates with their entropies, and their correlations.

    (a) Histograms of u = F(z) for a few evenly spaced coordinates, one row per arm (first seed),
    with the coordinate's entropy. (b) Entropies of all coordinates in rising order, mean over
    seeds. (c) Density of the off-diagonal entries of the correlation matrix of u, mean over seeds.

    Args:
        study: which arms, and how they are called.
        records: result files of paradigm "embeddings".

    Raises:
        ValueError: when no record belongs to the arms of ``study.separability``.
    """
    by_arm = records_by_arm(study, records, "embeddings")
    with style():
        height = 0.42 * len(by_arm)
        figure = Figure(figsize=(WIDTH, height + 2.5), layout="constrained")
        title = f"{study.bases[study.separability.base].label}: embeddings"
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=9)
        parts: Any = figure.subfigures(2, 1, height_ratios=(height + 0.5, 2.0))
        above, below = parts
        _marginals(above, study, by_arm)
        left, right = below.subplots(1, 2)
        _entropies(left, study, by_arm)
        _correlations(right, study, by_arm)
        below.legend(handles=arm_handles(study, by_arm), loc="outside lower center", ncols=3)
    return figure


def _marginals(figure: Any, study: Study, by_arm: ByArm) -> None:
    shown = {arm: found[0]["details"]["marginals"] for arm, found in by_arm.items()}
    coordinates = next(iter(shown.values()))["coordinates"]
    grid = figure.subplots(len(shown), len(coordinates), sharex=True, sharey=True, squeeze=False)
    tallest = max(max(map(max, marginals["densities"])) for marginals in shown.values())
    for row, (arm, marginals) in zip(grid, shown.items(), strict=True):
        colour, _ = look(study, arm)
        for i, axes in enumerate(row):
            axes.stairs(
                marginals["densities"][i], marginals["edges"], fill=True, color=colour, alpha=0.6
            )
            axes.axhline(1, color=INK, lw=0.5, ls=(0, (2, 2)))
            entropy = signed(marginals["entropies"][i])
            label = axes.text(0.97, 0.95, entropy, transform=axes.transAxes, ha="right", va="top")
            # narrow coordinates are as high as the panel
            label.set(size=6, path_effects=[withStroke(linewidth=1.5, foreground="white")])
            axes.set_yticks([])
            axes.set_xticks([0, 1])
            axes.set_ylim(0, 1.15 * min(tallest, 6))
        row[0].set_ylabel(study.arm_label(arm), rotation=0, ha="right", va="center")
    for axes, coordinate in zip(grid[0], coordinates, strict=True):
        axes.set_title(f"coord. {coordinate}", weight="normal", size=7, loc="center")
    figure.suptitle(
        "(a) densities of u = F(z), entropies in nats", x=0.01, ha="left", weight="bold", size=8
    )


def _entropies(axes: Axes, study: Study, by_arm: ByArm) -> None:
    for arm, found in by_arm.items():
        curve = np.mean([record["details"]["entropies"] for record in found], axis=0)
        axes.plot(np.linspace(0, 100, len(curve)), curve, color=look(study, arm)[0])
    axes.axhline(0, color=INK, lw=0.5, ls=(0, (2, 2)))
    axes.set(
        title="(b) entropies", xlabel="% of coordinates below", ylabel="nats", xticks=(0, 50, 100)
    )


def _correlations(axes: Axes, study: Study, by_arm: ByArm) -> None:
    widest = 0.0
    for arm, found in by_arm.items():
        density = np.mean([record["details"]["correlations"]["density"] for record in found], 0)
        edges = np.asarray(found[0]["details"]["correlations"]["edges"])
        axes.stairs(density, edges, baseline=None, color=look(study, arm)[0], lw=0.8)
        there = np.flatnonzero(density > 1e-2)
        if len(there):
            widest = max(widest, abs(edges[there[0]]), abs(edges[there[-1] + 1]))
    axes.set(
        title="(c) correlations",
        xlabel="of two coordinates of u",
        ylabel="density",
        yscale="log",
        ylim=(1e-2, None),
        xlim=(-widest or -1, widest or 1),
    )


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    records = [read_result(path) for path in inputs["results"]]
    save_figure(embedding_figure(study, records), outputs, "embeddings")


EMBEDDINGS = Part(
    name="embeddings",
    reads=lambda study: {"results": measurement_results(study, "embeddings")},
    writes=lambda study: figure_files("embeddings", "embeddings before and after"),
    make=_make,
    caption="embeddings.rst",
    lacking=lambda study: left_out(study, "embeddings"),
)
