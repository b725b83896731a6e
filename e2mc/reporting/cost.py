"""What each row of a table costs: seconds of training and of every kind of evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from e2mc.errors import InputError
from e2mc.reporting.cells import main_table_results
from e2mc.reporting.part import Inputs, Outputs, Part, figure_files, missing_main_tables
from e2mc.reporting.results import collect, select
from e2mc.reporting.style import PALE, WIDTH, save_figure, style
from e2mc.reporting.training import continued_logs, read_logs
from e2mc.study import Study

# of each stage, in the order in which a bar is put together (Okabe and Ito 2008)
COLOURS = {"training": "#D55E00", "linear": "#0072B2", "svm": "#56B4E9", "finetune": "#E69F00"}
SPARE = ("#009E73", "#CC79A7", "#6b6b6b")


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
        Columns base, arm, stage ("training", or the kind of a paradigm), seconds, n (runs),
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
        for stage, (label, colour) in _stages(study).items():
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


def _stages(study: Study) -> dict[str, tuple[str, str]]:
    """Stage -> label and colour."""
    labels = {"training": "continued training"}
    labels |= {paradigm.kind: paradigm.stage for paradigm in study.paradigms.values()}
    known = [stage for stage in COLOURS if stage in labels]
    others = [stage for stage in labels if stage not in COLOURS]
    spare = {stage: SPARE[i % len(SPARE)] for i, stage in enumerate(others)}
    return {stage: (labels[stage], (COLOURS | spare)[stage]) for stage in known + others}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    logs = read_logs(study.continued_runs(), inputs["logs"])
    costs = cost_per_row(study, study.main_tables, collect(inputs["results"]), logs)
    text = costs.to_csv(index=False, float_format="%.2f")
    outputs["costs.csv"].write_text(text, encoding="utf-8")
    save_figure(cost_figure(study, costs), outputs, "cost")


COST = Part(
    name="cost",
    reads=lambda study: {"results": main_table_results(study), "logs": continued_logs(study)},
    writes=lambda study: {"costs.csv": ""} | figure_files("cost", "cost of each row"),
    make=_make,
    caption="cost.rst",
    lacking=missing_main_tables,
)
