"""Comparing the candidates of a sweep, on the validation split only."""

from __future__ import annotations

import pandas as pd

from e2mc.study import Study


def compare_candidates(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """One row per base and candidate: validation accuracy per column, and the gain on average.

    Args:
        study: with a sweep.
        results: what ``collect`` returned for the sweep's result files.

    Returns:
        Columns base, arm, one per paradigm of the sweep (percent, mean over seeds and label
        subsets, raw features, last epoch), and ``gain``: the mean over these columns, less that of
        ``continued``. The best candidate of a criterion on a base is the one with the largest gain.
    """
    assert study.sweep is not None
    chosen = results[
        (results["split"] == "validation")
        & (results["selection"] == "last")
        & (results["features"] == "raw")
        & (results["metric"] == "top1")
    ]
    table = chosen.pivot_table(index=["base", "arm"], columns="paradigm", values="value")
    table = table[list(study.sweep.columns)]
    mean = table.mean(axis=1)
    rows = [(row.base, arm) for row in study.sweep.rows for arm in row.arms]
    table["gain"] = [value - mean[base, "continued"] for (base, _), value in mean.items()]
    return table.loc[rows].reset_index()
