"""Training curves: every term of the loss, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from e2mc.errors import InputError
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files
from e2mc.reporting.results import ResultError
from e2mc.reporting.style import WIDTH, arm_handles, look, save_figure, style
from e2mc.study import Run, Study

NOT_TERMS = ("step", "lr", "seconds")
COLUMNS = 3


def continued_logs(study: Study) -> list[Path]:
    """The log of every continued run of the main tables."""
    return [study.log_path(run) for run in study.continued_runs()]


def read_logs(runs: Sequence[Run], paths: Sequence[Path]) -> pd.DataFrame:
    """The ``training.csv`` of some runs as one frame; a path for each run.

    With the columns base, arm, base_seed and seed, which is that of the continuation.

    Raises:
        ResultError: when a file is missing or is no training log.
    """
    frames = []
    for run, path in zip(runs, paths, strict=True):
        try:
            frame = pd.read_csv(path)
        except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise ResultError(f"{path}: cannot be read ({error}): train the run again") from error
        if not {"step", "loss"} <= set(frame.columns):
            raise ResultError(f"{path}: is no training log, it has no columns step and loss")
        named = {"base_seed": run.base_seed, "seed": run.continuation_seed}
        frames.append(frame.assign(base=run.base, arm=run.arm, **named))
    if not frames:
        return pd.DataFrame(columns=["base", "arm", "base_seed", "seed", *NOT_TERMS, "loss"])
    return pd.concat(frames, ignore_index=True)


def training_figure(study: Study, base: str, logs: pd.DataFrame) -> Figure:
    """One panel per term, one line per arm: the mean over runs, with every run behind it.

    Args:
        study: how bases and arms are called.
        base: whose continued runs are shown.
        logs: from ``read_logs``; rows of other bases do not matter.

    Raises:
        ValueError: when no log belongs to the base.
    """
    logs = logs[logs["base"] == base]
    if logs.empty:
        raise InputError(f"no training log belongs to the base {base}")
    named = {"base", "arm", "base_seed", "seed", *NOT_TERMS}
    terms = [name for name in logs.columns if name not in named and logs[name].notna().any()]
    arms = list(dict.fromkeys(logs["arm"]))
    with style():
        rows = math.ceil(len(terms) / COLUMNS)
        figure = Figure(figsize=(WIDTH, 0.85 + 1.05 * rows), layout="constrained")
        title = f"{study.bases[base].label}: terms of the loss"
        figure.suptitle(title, x=0.01, ha="left", weight="bold", size=9)
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
        for axes, term in zip(panels, terms, strict=False):
            for arm in arms:
                colour, _ = look(study, arm)
                of_arm = logs[(logs["arm"] == arm) & logs[term].notna()]
                if of_arm.empty:
                    continue
                for _, of_run in of_arm.groupby(["base_seed", "seed"]):
                    axes.plot(of_run["step"], of_run[term], color=colour, lw=0.4, alpha=0.35)
                mean = of_arm.groupby("step")[term].mean()
                axes.plot(mean.index, mean, color=colour, lw=1)
            axes.set_title(_in_words(term), weight="normal", size=6.5)
            axes.tick_params(labelsize=5.5)
            axes.locator_params(nbins=3)
        _label_steps(panels, len(terms))
        figure.legend(handles=arm_handles(study, arms), loc="outside lower center", ncols=3)
    return figure


def _label_steps(panels: Iterable[Axes], shown: int) -> None:
    """Removes the panels that are not needed; the lowest of each column says what x is."""
    for number, axes in enumerate(panels):
        if number >= shown:
            axes.remove()
        elif number + COLUMNS >= shown:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("step", size=6.5)


def _in_words(term: str) -> str:
    return term.replace("/", ": ").replace("_", " ")


def _bases(study: Study) -> list[str]:
    """The bases that have a continued run."""
    return list(dict.fromkeys(run.base for run in study.continued_runs()))


def _writes(study: Study) -> dict[str, str]:
    files: dict[str, str] = {}
    for base in _bases(study):
        files |= figure_files(f"training_{base}", f"training curves, {study.bases[base].label}")
    return files


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    logs = read_logs(study.continued_runs(), inputs["logs"])
    for base in _bases(study):
        save_figure(training_figure(study, base, logs), outputs, f"training_{base}")


def _lacking(study: Study) -> str:
    if study.continued_runs():
        return ""
    return f"study {study.name} continues no base in table1 or table2: add an arm to their rows"


TRAINING = Part(
    name="training",
    reads=lambda study: {"logs": continued_logs(study)},
    writes=_writes,
    make=_make,
    caption="training.rst",
    lacking=_lacking,
)
