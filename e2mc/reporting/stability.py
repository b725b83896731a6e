"""Accuracy against batch size and momentum: each method's own objective beside ER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2mc.errors import InputError
from e2mc.reporting.layout import signed
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, missing_key
from e2mc.reporting.results import collect
from e2mc.reporting.statistics import Difference, headline_scores, paired_difference, spread
from e2mc.reporting.style import (
    WIDTH,
    curve_legend,
    curve_look,
    method_label,
    save_figure,
    style,
)
from e2mc.study import BASE_ARM, Run, Study

CLAIM = (
    "We show that replacing the objectives of common MVSSL methods with this ER bound achieves "
    "competitive performance, while making them stable when training with smaller batch sizes or "
    "smaller exponential moving average (EMA) coefficients."
)
SOURCE = "Rodríguez-Gálvez et al., ICML 2023, abstract"
AXES = {"batch_size": "batch size", "ema": "EMA coefficient"}
OBJECTIVES = {"own": "own", "er": "ER"}


@dataclass(frozen=True)
class Point:
    """One base on one axis.

    Attributes:
        axis: a key of `AXES`.
        method, objective: names; the objective is "own" or "er".
        value: batch size, or momentum at the start of the run.
        base: its name in the study.
        scores: base seed -> percent.
    """

    axis: str
    method: str
    objective: str
    value: float
    base: str
    scores: dict[int, float]


def stability_points(study: Study, results: pd.DataFrame) -> list[Point]:
    """The bases of ``study.stability`` with their scores, by axis, method, objective and value.

    Args:
        study: with stability.
        results: what ``collect`` returns.

    Raises:
        ValueError: when the study has no stability, or no result belongs to it.
    """
    shown = study.stability
    if shown is None:
        raise InputError(missing_key(study, "stability"))
    scores = headline_scores(study, results)
    points = []
    for axis in AXES:
        for base in getattr(shown, axis):
            spec = study.training_spec(Run(base, BASE_ARM, 0, None))
            found = scores.get((base, BASE_ARM, shown.column, "raw"), {})
            momentum = study.momentum(base)
            value = spec.batch_size if axis == "batch_size" or momentum is None else momentum
            objective = spec.method.params.get("objective", "own")
            by_seed = {seed: score for (seed, _), score in found.items()}
            points.append(Point(axis, spec.method.name, objective, value, base, by_seed))
    if not any(point.scores for point in points):
        raise InputError(f"no result of {study.name} is of stability.column {shown.column}")
    order = list(AXES)
    return sorted(
        points, key=lambda p: (order.index(p.axis), p.method, p.objective != "own", p.value)
    )


def loss_of_accuracy(points: Sequence[Point]) -> dict[int, float]:
    """Score at the largest value less score at the smallest, seed by seed, of one curve."""
    low, high = (pick(points, key=lambda p: p.value).scores for pick in (min, max))
    return {seed: high[seed] - low[seed] for seed in high if seed in low}


def losses_by_objective(
    points: Sequence[Point], axis: str, method: str
) -> tuple[dict[int, float], dict[int, float]] | None:
    """`loss_of_accuracy` of the own objective and of ER, over the range and seeds that both have.

    Returns:
        Base seed -> points, twice; None when they share less than two values or no seed.
    """
    curves = [
        [p for p in points if (p.axis, p.method, p.objective) == (axis, method, objective)]
        for objective in ("own", "er")
    ]
    shared = set.intersection(*({p.value for p in curve} for curve in curves))
    if len(shared) < 2:
        return None
    own, er = (loss_of_accuracy([p for p in curve if p.value in shared]) for curve in curves)
    seeds = own.keys() & er.keys()
    if not seeds:
        return None
    return {seed: own[seed] for seed in seeds}, {seed: er[seed] for seed in seeds}


def gain_in_stability(points: Sequence[Point], axis: str, method: str) -> Difference | None:
    """How much less accuracy ER loses than the own objective, over the range that both have."""
    losses = losses_by_objective(points, axis, method)
    if losses is None:
        return None
    own, er = losses
    return paired_difference(
        {(seed, None): loss for seed, loss in own.items()},
        {(seed, None): loss for seed, loss in er.items()},
    )


def verdict(points: Sequence[Point]) -> str:
    """What the points say about the claim, in one line for each method and axis."""
    lines = []
    for axis, name in AXES.items():
        for method in dict.fromkeys(p.method for p in points if p.axis == axis):
            losses = losses_by_objective(points, axis, method)
            gain = gain_in_stability(points, axis, method)
            if losses is None or gain is None:
                continue
            own, er = (sum(of.values()) / len(of) for of in losses)
            lines.append(
                f"- {method_label(method)}, {name}: from the largest to the smallest, the own "
                f"objective {_change(own)} and ER {_change(er)} (ER − own: {signed(gain.mean)}): "
                f"{_judgement(gain, own, er)} (n = {gain.n})."
            )
    return "\n".join(lines)


def _change(loss: float) -> str:
    return f"{'gains' if loss < 0 else 'loses'} {abs(loss):.2f} points"


def _judgement(gain: Difference, own: float, er: float) -> str:
    """What is to be said of the claim, which is about losses of accuracy."""
    if gain.sign is None:
        return "one seed, hence no verdict"
    if gain.sign == 0:
        return "within noise"
    if own <= 0 and er <= 0:
        return "neither loses accuracy, hence no verdict"
    return "the claim holds" if gain.sign == 1 else "the claim does not hold"


def stability_markdown(study: Study, points: Sequence[Point]) -> str:
    """One table per axis, the claim and what the points say about it."""
    text = [f"# {study.title}: {_column_label(study)}, percent\n", f"> {CLAIM}\n>\n> {SOURCE}\n"]
    for axis, of_axis in _by_axis(points).items():
        values = sorted({p.value for p in of_axis})
        head = " | ".join(["method", "objective", *(f"{value:g}" for value in values)])
        text.append(f"## By {AXES[axis]}\n\n| {head} |\n|{' :-- |' * 2}{' --: |' * len(values)}")
        for method, objective in dict.fromkeys((p.method, p.objective) for p in of_axis):
            curve = {p.value: p for p in of_axis if (p.method, p.objective) == (method, objective)}
            cells = [_cell(curve[value].scores) if value in curve else "" for value in values]
            text.append(
                " | ".join([f"| {method_label(method)}", OBJECTIVES[objective], *cells]) + " |"
            )
        text.append("")
    return "\n".join([*text, verdict(points), ""])


def _column_label(study: Study) -> str:
    if study.stability is None:
        raise InputError(missing_key(study, "stability"))
    return study.paradigms[study.stability.column].label


def _by_axis(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The axes that have points, with them."""
    return {
        axis: [p for p in points if p.axis == axis]
        for axis in dict.fromkeys(p.axis for p in points)
    }


def _cell(scores: dict[int, float]) -> str:
    if not scores:
        return "missing"
    mean, std = spread(scores.values())
    return f"{mean:.2f}" if len(scores) == 1 else f"{mean:.2f} ± {std:.2f}"


def stability_csv(points: Sequence[Point]) -> str:
    """One row per base and axis: mean, standard deviation and number of seeds."""
    rows = [
        {
            "axis": p.axis,
            "method": p.method,
            "objective": p.objective,
            "value": p.value,
            "base": p.base,
            **dict(zip(("mean", "std"), spread(p.scores.values()), strict=True)),
            "n": len(p.scores),
        }
        for p in points
    ]
    return pd.DataFrame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def stability_figure(study: Study, points: Sequence[Point]) -> Figure:
    """Accuracy against batch size and against the momentum; own objectives solid, ER dashed."""
    of_axes = _by_axis(points)
    with style():
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        panels = figure.subplots(1, len(of_axes), sharey=True, squeeze=False).ravel()
        for axes, (axis, of_axis) in zip(panels, of_axes.items(), strict=True):
            _panel(axes, [p for p in of_axis if p.scores])
            axes.set_xlabel(AXES[axis])
        panels[0].set_ylabel(f"{_column_label(study)}, percent")
        figure.legend(
            handles=curve_legend({p.method for p in points}), loc="outside upper center", ncols=4
        )
    return figure


def _panel(axes: Axes, points: Sequence[Point]) -> None:
    # evenly spaced: neither batch sizes nor momenta are on a common scale
    values = sorted({p.value for p in points})
    for method, objective in dict.fromkeys((p.method, p.objective) for p in points):
        curve = [p for p in points if (p.method, p.objective) == (method, objective)]
        summaries = [spread(p.scores.values()) for p in curve]
        colour, marker, line, fill = curve_look(method, objective)
        axes.errorbar(
            [values.index(p.value) for p in curve],
            [mean for mean, _ in summaries],
            yerr=[std if std == std else 0 for _, std in summaries],
            color=colour,
            marker=marker,
            ls=line,
            mfc=fill,
            elinewidth=0.7,
        )
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.margins(x=0.15)


def _reads(study: Study) -> Inputs:
    assert study.stability is not None
    runs, column = study.stability_runs(), study.stability.column
    return {"results": [study.result_path(run, column) for run in runs]}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    points = stability_points(study, collect(inputs["results"]))
    outputs["stability.csv"].write_text(stability_csv(points), encoding="utf-8")
    outputs["stability.md"].write_text(stability_markdown(study, points), encoding="utf-8")
    save_figure(stability_figure(study, points), outputs, "stability")


STABILITY = Part(
    name="stability",
    reads=_reads,
    writes=lambda study: (
        {"tables/stability.csv": "", "tables/stability.md": ""}
        | figure_files("stability", "batch size and EMA")
    ),
    make=_make,
    caption="stability.rst",
    lacking=lambda study: missing_key(study, "stability"),
)
