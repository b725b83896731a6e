"""Which cells of a table are asked for, and what each is compared with."""

from __future__ import annotations

from pathlib import Path

from e2mc.reporting.published import published_table
from e2mc.reporting.statistics import reference_arm
from e2mc.study import BASE_ARM, Rows, Study

Place = tuple[str, str, str]  # base, arm, column


def asked_cells(study: Study, name: str) -> dict[Place, str]:
    """The cells of a table that the study asks for, in its order -> arm that each is compared with.

    A study with ``extended: false`` leaves out those where the paper's table has the row and the
    column, but no number ("–"). What would be compared with such a cell is compared with the base.

    Args:
        study: whose table it is.
        name: key of ``study.tables``.

    Returns:
        (base, arm, column) -> reference, which is empty for the base.
    """
    table = study.tables[name]
    blank = _blank_cells(study, name)
    cells = {}
    for rows in table.rows:
        for arm in rows.arms:
            for column in table.columns:
                if (rows.base, arm, column) in blank:
                    continue
                reference = reference_arm(study, arm)
                compared = (rows.base, reference, column)
                cells[rows.base, arm, column] = BASE_ARM if compared in blank else reference
    return cells


def _blank_cells(study: Study, name: str) -> set[Place]:
    """Cells that the paper's table leaves blank, unless the study wants them all the same."""
    table = study.tables[name]
    if study.extended or table.published is None:
        return set()
    paper = published_table(table.published)
    lines = {(label, arm) for label, arm, _ in paper}
    columns = {column for _, _, column in paper}
    labels = {base: item.published or "" for base, item in study.bases.items()}
    return {
        (base, arm, column)
        for base, label in labels.items()
        for arm in (BASE_ARM, *study.arms)
        for column in table.columns
        if (label, arm) in lines and column in columns and (label, arm, column) not in paper
    }


def table_results(study: Study, name: str) -> list[Path]:
    """Every result file of a table."""
    return [
        study.result_path(run, column)
        for base, arm, column in asked_cells(study, name)
        for run in study.runs([Rows(base=base, arms=(arm,))])
    ]


def main_table_results(study: Study) -> list[Path]:
    """Every score of the tables in `all`, each file once."""
    found = [path for name in study.main_tables for path in table_results(study, name)]
    return list(dict.fromkeys(found))
