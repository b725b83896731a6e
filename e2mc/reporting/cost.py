"""What each row of a table costs: seconds of training and of every kind of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from e2mc.errors import InputError
from e2mc.reporting.entries import select
from e2mc.reporting.style import PALE, WIDTH, style

if TYPE_CHECKING:
    from e2mc.study import Study

# label and colour (Okabe and Ito 2008) of each stage
STAGES = {
    "training": ("continued training", "#D55E00"),
    "linear": ("linear classifiers", "#0072B2"),
    "svm": ("SVM", "#56B4E9"),
    "finetune": ("fine-tuning", "#E69F00"),
}


def cost_per_row(
    study: Study, table_names: Sequence[str], results: pd.DataFrame, logs: pd.DataFrame
) -> pd.DataFrame:
    """Wall seconds of one run of each row, by stage, as mean over seeds.

    Args:
        study: whose tables they are.
        table_names: tables whose rows are priced, each row once.
        results: what ``collect`` returns.
        logs: what ``read_logs`` returns, with the column "seconds".

    Returns:
        Columns base, arm, stage ("training", "linear", "svm", "finetune"), seconds, n (runs),
        device, peak_memory_mb (largest of the evaluations; empty for training).
    """
    rows = []
    kinds = {name: paradigm.kind for name, paradigm in study.paradigms.items()}
    seeds = ["base_seed", "seed"]
    last = logs.groupby(["base", "arm", *seeds])["seconds"].max()
    priced = dict.fromkeys(
        (rows.base, arm) for name in table_names for rows in study.tables[name].rows
        for arm in rows.arms
    )  # fmt: skip
    for base, arm in priced:
        if (base, arm) in last.index.droplevel(seeds):
            seconds = last.loc[base, arm]
            rows.append((base, arm, "training", seconds.mean(), len(seconds), "", np.nan))
        tables = [study.tables[name] for name in table_names]
        columns = dict.fromkeys(column for table in tables for column in table.columns)
        of_base = [row for table in tables for row in table.rows if row.base == base]
        kept = select(study, results, of_base, list(columns), study.seeds.continuation)
        kept = kept[kept["arm"] == arm].drop_duplicates(
            ["paradigm", "base_seed", "continuation_seed"]
        )
        for stage, of_stage in kept.groupby(kept["paradigm"].map(kinds)):
            runs = of_stage.groupby(["base_seed", "continuation_seed"], dropna=False)
            rows.append(
                (
                    base,
                    arm,
                    stage,
                    runs["wall_seconds"].sum().mean(),
                    len(runs),
                    ", ".join(sorted(of_stage["device"].unique())),
                    of_stage["peak_memory_mb"].max(),
                )
            )
    names = ["base", "arm", "stage", "seconds", "n", "device", "peak_memory_mb"]
    return pd.DataFrame(rows, columns=names)


def cost_figure(study: Study, costs: pd.DataFrame) -> Figure:
    """One stacked bar per row of the tables.

    Args:
        study: how bases and arms are called.
        costs: from ``cost_per_row``.

    Raises:
        ValueError: when there is nothing to show.
    """
    if costs.empty:
        raise InputError("no run has a cost to show: run the study first")
    unit, seconds = next(
        (unit for unit in (("hours", 3600), ("minutes", 60)) if costs["seconds"].max() > unit[1]),
        ("seconds", 1),
    )
    rows = list(dict.fromkeys(zip(costs["base"], costs["arm"], strict=True)))
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + 0.17 * len(rows)), layout="constrained")
        axes = figure.subplots()
        ends = np.zeros(len(rows))
        for stage, (label, colour) in STAGES.items():
            of_stage = costs[costs["stage"] == stage].set_index(["base", "arm"])["seconds"]
            lengths = np.array([of_stage.get(row, 0.0) for row in rows]) / seconds
            if lengths.any():
                places = -np.arange(len(rows))
                axes.barh(places, lengths, left=ends, color=colour, label=label, height=0.7)
                ends += lengths
        labels = [f"{study.bases[base].label}, {study.arm_label(arm)}" for base, arm in rows]
        axes.set_yticks(-np.arange(len(rows)), labels)
        axes.set(title="Cost of one run", xlabel=unit, ylim=(0.4 - len(rows), 0.6))
        axes.grid(axis="x", color=PALE, lw=0.4)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=2)
    return figure
