from __future__ import annotations

from pathlib import Path

import pytest

from e2mc.reporting.cells import asked_cells, main_table_results, table_results
from e2mc.reporting.published import published_table
from e2mc.study import load_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    return load_study("paper")


def test_the_paper_study_asks_for_the_cells_of_the_papers_tables(paper):
    for number in (1, 2):
        cells = asked_cells(paper, f"table{number}")
        label = {base: item.published for base, item in paper.bases.items()}
        assert {(label[base], arm, column) for base, arm, column in cells} == {
            *published_table(number)
        }


def test_what_the_paper_compares_with_nothing_is_compared_with_the_base(paper):
    cells = asked_cells(paper, "table1")
    to_base = {(base, column) for (base, arm, column), r in cells.items() if r == "base" != arm}
    to_base -= {(base, column) for (base, arm, column) in cells if arm == "continued"}
    # 6 semi-supervised, 4 iNat18 and 4 VOC07 cells; with the 12 linear ones all 26 have a gain
    assert len(to_base) == 14
    assert {column for _, column in to_base} == {
        "semisup_1",
        "semisup_10",
        "inat18_top1",
        "voc07_map",
    }
    references = {
        r for (_, arm, column), r in cells.items() if arm == "e2mc" and "linear" in column
    }
    assert references == {"continued"}


def test_an_extended_study_asks_for_every_cell(paper):
    extended = paper.model_copy(update={"extended": True})
    cells = asked_cells(extended, "table1")
    assert len(cells) == 4 * 3 * 7 == len(asked_cells(paper, "table1")) + 8 + 4 + 4 + 4
    assert set(cells.values()) == {"", "base", "continued"}
    assert cells["vicreg", "e2mc", "semisup_1"] == "continued"


def test_rows_and_columns_that_are_not_the_papers_are_asked_for(study):
    part = study.model_copy(update={"extended": False})
    own = part.tables["main"].model_copy(
        update={
            "rows": (part.tables["main"].rows[0].model_copy(update={"arms": ("e2mc-half",)}),),
            "columns": ("linear_1", "semisup_1", "outfits_map"),
        }
    )
    part = part.model_copy(update={"tables": part.tables | {"main": own}})
    assert list(asked_cells(part, "main").values()) == ["continued", "base", "continued"]
    assert [*asked_cells(part, "variants").values()] == [
        "base",
        "continued",
        "continued",
        "continued-long",
    ]


def test_result_files_of_the_tables(paper):
    files = table_results(paper, "table2")
    assert len(files) == 3 * (1 + 5 * 3) == len(set(files))
    # 4 bases: 26 cells; continued: 12 x 3 seeds; E2MC: 26 x 3; the rivals: 9 x 3
    assert len(main_table_results(paper)) == 26 + 12 * 3 + 26 * 3 + 9 * 3
