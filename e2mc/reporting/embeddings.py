"""Figures of what E2MC claims to change: marginals, correlations and spectrum of the embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from e2mc.reporting.layout import signed
from e2mc.reporting.results import records_by_arm, score_of
from e2mc.reporting.style import INK, PALE, WIDTH, look, style

if TYPE_CHECKING:
    from e2mc.study import Study

Records = Mapping[str, Sequence[dict[str, Any]]]


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
        below.legend(handles=_handles(study, by_arm), loc="outside lower center", ncols=3)
    return figure


def _marginals(figure: Any, study: Study, by_arm: Records) -> None:
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


def _entropies(axes: Axes, study: Study, by_arm: Records) -> None:
    for arm, found in by_arm.items():
        curve = np.mean([record["details"]["entropies"] for record in found], axis=0)
        axes.plot(np.linspace(0, 100, len(curve)), curve, color=look(study, arm)[0])
    axes.axhline(0, color=INK, lw=0.5, ls=(0, (2, 2)))
    axes.set(
        title="(b) entropies", xlabel="% of coordinates below", ylabel="nats", xticks=(0, 50, 100)
    )


def _correlations(axes: Axes, study: Study, by_arm: Records) -> None:
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


def spectrum_figure(study: Study, records: Sequence[dict[str, Any]]) -> Figure:
    """Spectrum of the embeddings' covariance, and effective ranks of embeddings and features.

    (a) Share of the variance along each principal direction, mean over seeds. (b) Effective rank,
    exp of the entropy of these shares (Roy and Vetterli 2007), one marker per seed: embeddings
    filled, the backbone's features open.

    Args:
        study: which arms, and how they are called.
        records: result files of the paradigms "embeddings" and "separability".

    Raises:
        ValueError: when no record belongs to the arms of ``study.separability``.
    """
    embeddings = records_by_arm(study, records, "embeddings")
    features = records_by_arm(study, records, "separability")
    with style():
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        title = f"{study.bases[study.separability.base].label}: spectrum"
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=9)
        curves, ranks = figure.subplots(2, 1, height_ratios=(1.6, 1))
        for arm, found in embeddings.items():
            spectra = [record["details"]["spectrum"] for record in found]
            shares = np.mean([spectrum["share"] for spectrum in spectra], axis=0)
            curves.plot(spectra[0]["rank"], shares, color=look(study, arm)[0])
        curves.set(
            title="(a) covariance of the embeddings",
            xlabel="principal direction",
            ylabel="share of the variance",
            xscale="log",
            yscale="log",
        )
        curves.legend(handles=_handles(study, embeddings), loc="lower left")
        _ranks(ranks, study, embeddings, features)
    return figure


def _ranks(axes: Axes, study: Study, embeddings: Records, features: Records) -> None:
    for i, arm in enumerate(embeddings):
        colour, marker = look(study, arm)
        axes.axhline(-i, color=PALE, lw=0.5, zorder=0)
        of_embeddings = [score_of(record, "embedding_rank") for record in embeddings[arm]]
        axes.plot(of_embeddings, [-i] * len(of_embeddings), marker, color=colour, mew=0)
        of_features = [r["details"]["rank"]["effective_rank"] for r in features.get(arm, ())]
        axes.plot(of_features, [-i] * len(of_features), marker, color=colour, mfc="white", mew=0.7)
    axes.set(title="(b) effective rank", xlabel="filled: embeddings, open: features")
    axes.set_yticks([-i for i in range(len(embeddings))], map(study.arm_label, embeddings))
    axes.set_ylim(0.6 - len(embeddings), 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _handles(study: Study, arms: Records) -> list[Line2D]:
    return [Line2D([], [], color=look(study, a)[0], label=study.arm_label(a)) for a in arms]
