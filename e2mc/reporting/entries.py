"""The cells of a table, with all that is known of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from e2mc.reporting.cells import asked_cells
from e2mc.reporting.published import Published, published_table
from e2mc.reporting.statistics import (
    Difference,
    headline_scores,
    paired_difference,
    reference_arm,
    spread,
)
from e2mc.study import Study

NOT_ASKED = "–"
NOTHING = Difference(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        base, arm, column, features: where it is.
        n: runs that it rests on.
        planned: runs that the study asks for.
        mean, std: of the runs' headline scores; NaN where there is none.
        reference: arm it is compared with; empty for the base.
        difference: to the reference, paired by seeds.
        published: the paper's number.
        published_difference: to the paper's number for the reference.
        missing: why there is no score; ``NOT_ASKED`` where the study does not ask for one.
    """

    base: str
    arm: str
    column: str
    features: str
    n: int
    planned: int
    mean: float
    std: float
    reference: str
    difference: Difference | None
    published: Published | None
    published_difference: float | None
    missing: str

    @property
    def compared(self) -> Difference:
        """The difference, of an entry that has one."""
        assert self.difference is not None, f"{self.arm} has nothing to be compared with"
        return self.difference

    def flat(self) -> dict[str, object]:
        """Its row of the CSV."""
        difference = self.difference or NOTHING
        paper = self.published or Published(math.nan, None, "")
        return {
            "base": self.base,
            "arm": self.arm,
            "column": self.column,
            "features": self.features,
            "n": self.n,
            "mean": self.mean,
            "std": self.std,
            "reference": self.reference,
            "difference": difference.mean,
            "ci_low": difference.low,
            "ci_high": difference.high,
            "difference_n": difference.n,
            "within_noise": None if difference.sign is None else difference.sign == 0,
            "published": paper.value,
            "published_std": paper.std,
            "published_mark": paper.mark,
            "published_difference": self.published_difference,
            "missing": self.missing,
        }


def table_entries(study: Study, name: str, results: pd.DataFrame) -> list[Entry]:
    """Every cell of a table, in its order; those with whitened features a second time on them.

    Args:
        study: whose table it is.
        name: key of ``study.tables``.
        results: those of the table, from ``select``.
    """
    table = study.tables[name]
    scores = headline_scores(study, results)
    asked = asked_cells(study, name)
    evaluated = set(zip(results["base"], results["arm"], results["paradigm"], strict=True))
    paper = {} if table.published is None else published_table(table.published)
    found = []
    for rows in table.rows:
        label = study.bases[rows.base].published or ""
        for arm in rows.arms:
            for column in table.columns:
                place = (rows.base, arm, column)
                reference = asked.get(place, reference_arm(study, arm))
                ours = paper.get((label, arm, column))
                theirs = paper.get((label, reference, column))
                for features in study.paradigms[column].kinds_of_features:
                    runs = scores.get((rows.base, arm, column, features), {})
                    others = scores.get((rows.base, reference, column, features), {})
                    mean, std = spread(runs.values())
                    raw = features == "raw"  # the paper has no whitened features
                    entry = Entry(
                        rows.base,
                        arm,
                        column,
                        features,
                        n=len(runs),
                        planned=len(study.seeds.base) * len(study.continuation_seeds(arm)),
                        mean=mean,
                        std=std,
                        reference=reference,
                        difference=paired_difference(runs, others),
                        published=ours if raw else None,
                        published_difference=(
                            round(ours.value - theirs.value, 4) if raw and ours and theirs else None
                        ),
                        missing="" if runs else _why(place in asked, place in evaluated),
                    )
                    found.append(entry)
    return found


def _why(asked: bool, evaluated: bool) -> str:
    if not asked:
        return NOT_ASKED
    return "not evaluated for this arm" if evaluated else "not run"
