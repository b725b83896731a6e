"""The papers' numbers, as data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd


@cache
def published() -> pd.DataFrame:
    """Columns table, base, criterion, epochs, column, value, std, mark.

    ``mark`` is † or * as printed beside the number on the authors' poster.

    Source: Chakraborty, LeCun, Rudner, Learned-Miller, AISTATS 2025 (arXiv 2411.15931), Tables 1
    and 2.
    """
    with files("e2mc.reporting").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, na_values={"value": [""], "std": [""]})


def published_value(table: int, base: str, criterion: str, column: str) -> pd.Series | None:
    """One number with its std and mark, or None where the paper has none."""
    numbers = published()
    found = numbers[
        (numbers["table"] == table)
        & (numbers["base"] == base)
        & (numbers["criterion"] == criterion)
        & (numbers["column"] == column)
    ]
    return None if found.empty else found.iloc[0]
