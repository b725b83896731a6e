"""How estimates of joint entropies and of marginal ones fail as dimensions are added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from e2mc.entropy import marginal_entropy
from e2mc.evaluation.joint_entropy import (
    gaussian_entropy,
    kernel_density_entropy,
    nearest_neighbour_entropy,
    squared_distances,
)
from e2mc.evaluation.laws import LAWS, Law, normal_chain, sample, total_correlation
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files
from e2mc.reporting.style import COLOURS, GREY, INK, WIDTH, save_figure, style
from e2mc.study import Study

POINTS = (512, 4096)
DIMENSIONS = tuple(2**k for k in range(12))
CORRELATIONS = {"independent": 0.0, "correlated": 0.9}
SEED = 0

# estimator -> colour; those of the joint entropy first
JOINT = {"nearest neighbour": "#0072B2", "kernel density": "#009E73", "Gaussian": "#CC79A7"}
LOOKS = JOINT | {"m-spacings": COLOURS["e2mc"]}
MARKERS = {"normal": "o", "uniform": "s", "Laplace": "^", "mixture": "D"}
LEAST = 1e-3  # smaller errors are drawn as this


def estimator_errors(points: Sequence[int], dimensions: Sequence[int]) -> pd.DataFrame:
    """Every estimate on one sample of every law, in nats per dimension.

    Args:
        points: numbers N of points.
        dimensions: numbers d of coordinates.

    Returns:
        One row per dependence, N, d, law and estimator: what is estimated (``of``: "joint", the
        joint entropy over d, or "marginal", the mean entropy of a coordinate), its ``truth``, the
        ``estimate`` and the ``error``, estimate less truth; NaN where there is no estimate.
    """
    rows = []
    for dependence, correlation in CORRELATIONS.items():
        for count in points:
            for d in dimensions:
                z = normal_chain(count, d, correlation, SEED)
                below = total_correlation(d, correlation) / d
                for name, law in LAWS.items():
                    for estimator, estimate in _estimates(law, z):
                        of = "joint" if estimator in JOINT else "marginal"
                        truth = law.entropy - (below if of == "joint" else 0)
                        rows.append(
                            {
                                "dependence": dependence,
                                "points": count,
                                "dimensions": d,
                                "law": name,
                                "estimator": estimator,
                                "of": of,
                                "truth": truth,
                                "estimate": estimate,
                                "error": estimate - truth,
                            }
                        )
    return pd.DataFrame(rows)


def _estimates(law: Law, z: np.ndarray) -> Iterator[tuple[str, float]]:
    """Estimator and estimate, in nats per dimension."""
    x, d = sample(law, z), z.shape[1]
    squared = squared_distances(x)
    yield "nearest neighbour", nearest_neighbour_entropy(squared, d) / d
    deviation = float(x.var(dim=0).mean().sqrt())
    yield "kernel density", kernel_density_entropy(squared, d, deviation) / d
    yield "Gaussian", gaussian_entropy(x) / d
    yield "m-spacings", float(marginal_entropy(x).mean())


def estimators_figure(errors: pd.DataFrame) -> Figure:
    """Size of the error against the number of dimensions, a panel per N and dependence.

    Args:
        errors: what ``estimator_errors`` returns.
    """
    counts = errors["points"].unique()
    with style():
        figure = Figure(figsize=(2 * WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(len(counts), len(CORRELATIONS), sharex=True, sharey=True)
        panels = np.reshape(panels, (len(counts), len(CORRELATIONS)))
        for row, count in zip(panels, counts, strict=True):
            row[0].set_ylabel("error, nats per dimension")
            for axes, dependence in zip(row, CORRELATIONS, strict=True):
                shown = (errors["points"] == count) & (errors["dependence"] == dependence)
                _panel(axes, errors[shown])
                axes.set_title(f"{dependence} coordinates, N = {count:,}")
        for axes in panels[-1]:
            axes.set_xlabel("dimensions d")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, errors: pd.DataFrame) -> None:
    for (estimator, law), curve in errors.groupby(["estimator", "law"], sort=False):
        axes.plot(
            curve["dimensions"],
            curve["error"].abs().clip(lower=LEAST),
            color=LOOKS[estimator],
            marker=MARKERS[law],
            lw=0.8,
            ms=2.5,
        )
    truths = errors.pivot_table(index="dimensions", columns="of", values="truth", aggfunc="mean")
    apart = truths["marginal"] - truths["joint"]
    if (apart > LEAST).any():
        shown = apart[apart > LEAST]
        axes.plot(shown.index, shown, color=GREY, ls="--", label="marginal − joint, true")
        axes.legend(loc="lower right")
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    ticks = sorted({1, *truths.index[::-2]})
    axes.set_xticks(ticks, [f"{d:,}" for d in ticks])
    axes.minorticks_off()


def _legend() -> list[Line2D]:
    estimators = [
        Line2D([], [], color=colour, label=f"{name} ({'joint' if name in JOINT else 'marginal'})")
        for name, colour in LOOKS.items()
    ]
    laws = [Line2D([], [], color=INK, marker=m, ls="", label=law) for law, m in MARKERS.items()]
    # columns are filled from the top: an estimator above a law
    return [handle for pair in zip(estimators, laws, strict=True) for handle in pair]


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    errors = estimator_errors(POINTS, DIMENSIONS)
    text = errors.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    outputs["estimators.csv"].write_text(text, encoding="utf-8")
    save_figure(estimators_figure(errors), outputs, "estimators")


ESTIMATORS = Part(
    name="estimators",
    reads=lambda study: {},
    writes=lambda study: (
        {"tables/estimators.csv": ""} | figure_files("estimators", "estimates of entropy")
    ),
    make=_make,
    caption="estimators.rst",
    in_all=False,
    in_full_report=False,
)
