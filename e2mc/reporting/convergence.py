"""Accuracy against epochs of continued pre-training, with and without a criterion."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from e2mc.errors import InputError
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, missing_key
from e2mc.reporting.results import collect, select
from e2mc.reporting.statistics import headline_scores, paired_difference, spread
from e2mc.reporting.style import WIDTH, look, save_figure, style
from e2mc.study import BASE_ARM, Study


def convergence_scores(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Headline scores along each curve of ``study.convergence``; every curve begins at the base.

    Args:
        study: with a ``convergence``.
        results: what ``collect`` returns.

    Returns:
        One row per column, curve and number of epochs: column, curve (its first arm), arm, epochs,
        n, mean, std, and the paired difference to the first curve at as many epochs with its 95 %
        interval (difference, ci_low, ci_high).

    Raises:
        ValueError: when the study has no ``convergence``, or no result belongs to it.
    """
    shown = study.convergence
    if shown is None:
        raise InputError(missing_key(study, "convergence"))
    kept = select(study, results, study.convergence_rows(), shown.columns, study.seeds.continuation)
    scores = headline_scores(study, kept)
    rows = []
    for column in shown.columns:
        first: dict[int, dict] = {}
        for curve in shown.curves:
            for arm in (BASE_ARM, *curve):
                runs = scores.get((shown.base, arm, column, "raw"), {})
                if not runs:
                    continue
                epochs = study.epochs_of(shown.base, arm)
                mean, std = spread(runs.values())
                if curve == shown.curves[0]:
                    first[epochs] = runs
                apart = None
                if curve != shown.curves[0] and arm != BASE_ARM:
                    apart = paired_difference(runs, first.get(epochs, {}))
                rows.append(
                    {
                        "column": column,
                        "curve": curve[0],
                        "arm": arm,
                        "epochs": epochs,
                        "n": len(runs),
                        "mean": mean,
                        "std": std,
                        "difference": apart and apart.mean,
                        "ci_low": apart and apart.low,
                        "ci_high": apart and apart.high,
                    }
                )
    if not rows:
        raise InputError(f"no result belongs to the curves of {shown.base}: run them first")
    return pd.DataFrame(rows).sort_values(["column", "curve", "epochs"], kind="stable")


def convergence_figure(study: Study, scores: pd.DataFrame) -> Figure:
    """One panel per column, one line per curve with the standard deviation over seeds.

    Args:
        study: how arms, bases and columns are called.
        scores: from ``convergence_scores``.
    """
    assert study.convergence is not None
    columns = [name for name in study.convergence.columns if name in set(scores["column"])]
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + 1.25 * len(columns)), layout="constrained")
        title = f"{study.bases[study.convergence.base].label}: epochs of continued pre-training"
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=9)
        panels = figure.subplots(len(columns), 1, squeeze=False, sharex=True).ravel()
        for axes, column in zip(panels, columns, strict=True):
            for curve, points in scores[scores["column"] == column].groupby("curve", sort=False):
                colour, marker = look(study, str(curve))
                label = study.arm_label(str(curve))
                std = points["std"].fillna(0)
                axes.errorbar(
                    points["epochs"],
                    points["mean"],
                    yerr=std,
                    color=colour,
                    marker=marker,
                    label=label,
                    elinewidth=0.7,
                    capsize=2,
                )
            axes.set_title(study.paradigms[column].label)
            axes.set_ylabel("%")
        panels[-1].set(xlabel="epochs", xticks=sorted(set(scores["epochs"])))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _reads(study: Study) -> Inputs:
    assert study.convergence is not None
    runs = study.runs(study.convergence_rows())
    columns = study.convergence.columns
    return {"results": [study.result_path(run, column) for run in runs for column in columns]}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    scores = convergence_scores(study, collect(inputs["results"]))
    text = scores.to_csv(index=False, float_format="%.4f")
    outputs["convergence.csv"].write_text(text, encoding="utf-8")
    save_figure(convergence_figure(study, scores), outputs, "convergence")


CONVERGENCE = Part(
    name="convergence",
    reads=_reads,
    writes=lambda study: (
        {"convergence.csv": ""} | figure_files("convergence", "accuracy against epochs")
    ),
    make=_make,
    caption="convergence.rst",
    lacking=lambda study: missing_key(study, "convergence"),
    in_all=False,
)
