"""How separable the features are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, left_out
from e2mc.reporting.results import ByArm, measurement_results, read_result, records_by_arm, score_of
from e2mc.reporting.style import INK, PALE, WIDTH, look, save_figure, style
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


def _cosine_rows(axes: Axes, study: Study, by_arm: ByArm) -> None:
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


def _class_separation(axes: Axes, study: Study, by_arm: ByArm) -> None:
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


def _labelings(axes: Axes, study: Study, by_arm: ByArm) -> None:
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


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    records = [read_result(path) for path in inputs["results"]]
    save_figure(separability_figure(study, records), outputs, "separability")


SEPARABILITY = Part(
    name="separability",
    reads=lambda study: {"results": measurement_results(study, "separability")},
    writes=lambda study: figure_files("separability", "separability"),
    make=_make,
    caption="separability.rst",
    lacking=lambda study: left_out(study, "separability"),
)
