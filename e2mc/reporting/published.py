"""The paper's numbers, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Published:
    """One number of the paper: percent, standard deviation where given, † or * where marked."""

    value: float
    std: float | None
    mark: str


def published_table(number: int) -> dict[tuple[str, str, str], Published]:
    """(base, criterion, column) -> what the paper's table ``number`` (1 or 2) gives."""
    frame = pd.read_csv(Path(__file__).with_name("published.csv"))
    frame = frame[frame["table"] == number]
    return {
        (row.base, row.criterion, row.column): Published(
            row.value,
            None if pd.isna(row.std) else row.std,
            "" if pd.isna(row.mark) else row.mark,
        )
        for row in frame.itertuples()
    }
