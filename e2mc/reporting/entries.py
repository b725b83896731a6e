"""The cells of a table, with all that is known of each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from e2mc.reporting.cells import asked_cells
from e2mc.reporting.published import Published, published_table
from e2mc.reporting.statistics import (
    NOTHING,
    Difference,
    Evaluation,
    paired_difference,
    reference_arm,
    seeded_scores,
    spread,
)
from e2mc.study import BASE_ARM, Study

NOT_ASKED = "–"


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        base, arm, column, features: where it is.
        n: runs that it rests on; of a base, evaluations with seeds of their own.
        planned: as many as the study asks for.
        mean, std: of their headline scores; NaN where there is none.
        over: what the n differ in, e.g. "continuation seeds"; empty for one.
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
    over: str
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
            "std_over": self.over,
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
    scores = seeded_scores(study, results)
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
                        planned=_planned(study, arm, column),
                        mean=mean,
                        std=std,
                        over=_over(runs),
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


def _planned(study: Study, arm: str, column: str) -> int:
    """How many runs, or evaluations of a base, a cell is of."""
    runs = len(study.seeds.base) * len(study.continuation_seeds(arm))
    several = arm == BASE_ARM and study.paradigms[column].draws
    return runs * len(study.seeds.evaluation) if several else runs


def _over(seeds: Iterable[Evaluation]) -> str:
    """Which of their seeds some runs differ in."""
    kinds = ("pre-training", "continuation", "evaluation")
    found = [
        kind for kind, of_kind in zip(kinds, zip(*seeds), strict=False) if len(set(of_kind)) > 1
    ]
    return f"{' and '.join(found)} seeds" if found else ""


def _why(asked: bool, evaluated: bool) -> str:
    if not asked:
        return NOT_ASKED
    return "not evaluated for this arm" if evaluated else "not run"
