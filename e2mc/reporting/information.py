"""Entropy and reconstruction during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, missing_key
from e2mc.reporting.results import ResultError
from e2mc.reporting.style import WIDTH, curve_legend, curve_look, save_figure, style
from e2mc.study import Run, Study

PANELS = {
    "entropy": "(a) entropy",
    "reconstruction": "(b) error",
    "bound": "(c) entropy − error",
    "marginal_entropy": "(d) marginal entropy",
}


def read_curves(runs: Sequence[Run], paths: Sequence[Path]) -> pd.DataFrame:
    """The measurements along the pre-training of some bases; a path for each run.

    Entropy and reconstruction error are given less the entropy of the uniform law, so that
    embeddings of different dimensions can be compared: 0 is uniform.

    Returns:
        Columns base, base_seed, epoch and those of `PANELS`.

    Raises:
        ResultError: when a file is missing or is no such file.
    """
    frames = [
        _read(path).assign(base=run.base, base_seed=run.base_seed)
        for run, path in zip(runs, paths, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read ({error}): run its target") from error
    missing = {"epoch", "uniform", *PANELS} - set(frame)
    if missing:
        raise ResultError(f"{path}: lacks {', '.join(sorted(missing))}: run its target again")
    for name in ("entropy", "reconstruction"):
        frame[name] -= frame["uniform"]
    return frame


def information_figure(study: Study, curves: pd.DataFrame) -> Figure:
    """One panel per measure against the epochs; own objectives solid, ER dashed, mean over seeds.

    Args:
        study: which method and objective a base has.
        curves: what `read_curves` returns.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).ravel()
        methods = set()
        for base, of_base in curves.groupby("base", sort=False):
            method = study.bases[base].method
            methods.add(method.name)
            mean = of_base.groupby("epoch")[list(PANELS)].mean()
            colour, marker, line, fill = curve_look(
                method.name, method.params.get("objective", "own")
            )
            for axes, name in zip(panels, PANELS, strict=True):
                axes.plot(
                    mean.index, mean[name], color=colour, ls=line, marker=marker, mfc=fill, ms=2.5
                )
        for axes, title in zip(panels, PANELS.values(), strict=True):
            axes.set_title(title)
        for axes in panels[2:]:
            axes.set_xlabel("epoch")
        figure.supylabel("nats", fontsize=7.5)
        figure.legend(handles=curve_legend(methods), loc="outside upper center", ncols=4)
    return figure


def curve_endpoints(study: Study, curves: pd.DataFrame) -> str:
    """Every measure before and after the training as Markdown, in nats, mean over seeds."""
    titles = [title.partition(" ")[2] for title in PANELS.values()]
    lines = [f"| before → after | {' | '.join(titles)} |", f"| :-- |{' --: |' * len(titles)}"]
    for base, of_base in curves.groupby("base", sort=False):
        mean = of_base.groupby("epoch")[list(PANELS)].mean()
        cells = [f"{mean[name].iloc[0]:.2f} → {mean[name].iloc[-1]:.2f}" for name in PANELS]
        row = " | ".join(cells).replace("-", "−")
        lines.append(f"| {study.bases[base].label} | {row} |")
    return "\n".join(lines) + "\n"


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    curves = read_curves(study.information_runs(), inputs["curves"])
    outputs["information.md"].write_text(curve_endpoints(study, curves), encoding="utf-8")
    save_figure(information_figure(study, curves), outputs, "information")


INFORMATION = Part(
    name="information",
    reads=lambda study: {
        "curves": [study.information_path(run) for run in study.information_runs()]
    },
    writes=lambda study: (
        {"tables/information.md": ""} | figure_files("information", "entropy and reconstruction")
    ),
    make=_make,
    caption="information.rst",
    lacking=lambda study: missing_key(study, "information"),
)
