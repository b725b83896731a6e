"""The candidates of a sweep, compared where no table looks."""

from __future__ import annotations

import pandas as pd

from e2mc.errors import InputError
from e2mc.reporting.part import Inputs, Outputs, Part, missing_key
from e2mc.reporting.results import collect, select
from e2mc.reporting.statistics import headline_scores, paired_difference, reference_arm, spread
from e2mc.study import Study


def compare_candidates(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Validation scores of the sweep's arms, with seeds that no table reports.

    Args:
        study: with a sweep.
        results: what ``collect`` returns.

    Returns:
        One row per base and arm: the headline score of each column on the validation split (raw
        features, mean over seeds), "mean" over the columns, and "gain" of that mean over the
        reference arm with the same seeds. The best gain of a base comes first.

    Raises:
        ValueError: when the study has no sweep.
    """
    sweep = study.sweep
    if sweep is None:
        raise InputError(missing_key(study, "sweep"))
    kept = select(study, results, sweep.rows, sweep.columns, sweep.seeds)
    scores = headline_scores(study, kept, split="validation")
    rows = []
    for row in sweep.rows:
        for arm in row.arms:
            runs = [scores.get((row.base, arm, column, "raw"), {}) for column in sweep.columns]
            reference = reference_arm(study, arm)
            gains = [
                paired_difference(of_column, scores.get((row.base, reference, column, "raw"), {}))
                for of_column, column in zip(runs, sweep.columns, strict=True)
            ]
            means = pd.Series([spread(of_column.values())[0] for of_column in runs])
            rows.append(
                {
                    "base": row.base,
                    "arm": arm,
                    **dict(zip(sweep.columns, means, strict=True)),
                    "mean": means.mean(skipna=False),
                    "gain": pd.Series([gain and gain.mean for gain in gains], dtype=float).mean(
                        skipna=False
                    ),
                }
            )
    frame = pd.DataFrame(rows)
    order = frame["base"].map({base: i for i, base in enumerate(study.bases)})
    return (
        frame.assign(order=order)
        .sort_values(["order", "gain"], ascending=[True, False], kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )


def _reads(study: Study) -> Inputs:
    sweep = study.sweep
    assert sweep is not None
    runs = study.runs(sweep.rows, sweep.seeds)
    return {"results": [study.result_path(run, column) for run in runs for column in sweep.columns]}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    table = compare_candidates(study, collect(inputs["results"]))
    text = table.to_csv(index=False, float_format="%.3f")
    outputs["sweep.csv"].write_text(text, encoding="utf-8")
    text = table.to_markdown(index=False, floatfmt=".2f") + "\n"
    outputs["sweep.md"].write_text(text, encoding="utf-8")


SWEEP = Part(
    name="sweep",
    reads=_reads,
    writes=lambda study: {"sweep.csv": "", "sweep.md": ""},
    make=_make,
    lacking=lambda study: missing_key(study, "sweep"),
    in_all=False,
    in_full_report=False,
)
