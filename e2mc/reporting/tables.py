"""A table of a study: our scores, the paper's, and what they say in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from e2mc.errors import expect_known
from e2mc.reporting import layout
from e2mc.reporting.cells import table_results
from e2mc.reporting.entries import Entry, table_entries
from e2mc.reporting.layout import Block, Cell, Group, Row, difference_cell, signed, value_text
from e2mc.reporting.notes import gap_text, notes
from e2mc.reporting.part import Inputs, Outputs, Part, table_files
from e2mc.reporting.results import collect, select
from e2mc.reporting.statistics import reference_arm
from e2mc.reporting.verdict import plain_label, verdict
from e2mc.state import write_text
from e2mc.study import BASE_ARM, Study

# that every study knows, if only to say it has none
TARGETS = ("table1", "table2", "ablations", "criteria")
KINDS = ("csv", "md", "tex", "html")
TO_BASE = "§"  # a difference to the base in a row of differences to something else


@dataclass(frozen=True)
class ResultTable:
    """A finished table. Every format holds the same numbers; the CSV also holds the intervals.

    Attributes:
        blocks: our scores.
        paper: the paper's scores, and its differences above ours, for formats of a page's width.
        beside: the paper's number, ours and their difference in each row, for the wide HTML.
    """

    title: str
    blocks: tuple[Block, ...]
    paper: tuple[Block, ...]
    beside: tuple[Block, ...]
    verdict: str
    notes: tuple[str, ...]
    entries: tuple[Entry, ...]

    def markdown(self) -> str:
        return layout.markdown(self.title, self.blocks + self.paper, self.verdict, self.notes)

    def latex(self) -> str:
        """A document that compiles by itself; each block is one ``tabular`` to copy."""
        return layout.latex(self.title, self.blocks + self.paper, self.verdict, self.notes)

    def html(self) -> str:
        return layout.html(self.title, self.blocks + self.beside, self.verdict, self.notes)

    def csv(self) -> str:
        """One row per base, arm, column and kind of features."""
        frame = pd.DataFrame([entry.flat() for entry in self.entries])
        return frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")

    def text(self, kind: str) -> str:
        """It in one of ``KINDS``."""
        write = {"csv": self.csv, "md": self.markdown, "tex": self.latex, "html": self.html}
        return write[kind]()

    def save(self, path: Path) -> dict[str, Path]:
        """Writes ``path`` with the suffix of each of ``KINDS``; kind -> file."""
        paths = {kind: path.with_name(f"{path.name}.{kind}") for kind in KINDS}
        for kind, file in paths.items():
            write_text(self.text(kind), file)
        return paths


def build_table(study: Study, name: str, results: pd.DataFrame) -> ResultTable:
    """The table ``name`` of a study from its results.

    Args:
        study: what is shown, and how it is called.
        name: key of ``study.tables``.
        results: what ``collect`` returns; rows that are not of this table do not matter.

    Raises:
        ValueError: when the study has no such table.
    """
    expect_known(name, study.tables, "table")
    table = study.tables[name]
    results = select(study, results, table.rows, table.columns, study.seeds.continuation)
    entries = table_entries(study, name, results)
    return ResultTable(
        title=f"{table.title}: {study.title}",
        blocks=tuple(_blocks(study, name, entries)),
        paper=tuple(_paper_blocks(study, name, entries)),
        beside=tuple(_beside_blocks(study, name, entries)),
        verdict=verdict(study, entries),
        notes=notes(study, entries, results),
        entries=tuple(entries),
    )


def _blocks(study: Study, name: str, entries: Sequence[Entry]) -> Iterable[Block]:
    columns = study.tables[name].columns
    raw = [entry for entry in entries if entry.features == "raw"]
    whitened = [entry for entry in entries if entry.features == "whitened"]
    names = {base: study.bases[base].label for base in study.bases}
    with_gaps = {base: names[base] + gap_text(study, base, raw) for base in study.bases}
    yield _block(
        study,
        "Scores on the features as they are",
        columns,
        with_gaps,
        raw,
        _score_rows,
        footnotes=_to_base(study, raw),
    )
    twice = [name for name in columns if "whitened" in study.paradigms[name].kinds_of_features]
    if twice:
        stages = ", ".join(dict.fromkeys(study.paradigms[name].stage for name in twice))
        title = f"Scores on whitened features ({stages} only)"
        yield _block(study, title, twice, names, whitened, _score_rows)


def _paper_blocks(study: Study, name: str, entries: Sequence[Entry]) -> Iterable[Block]:
    columns = study.tables[name].columns
    raw = [entry for entry in entries if entry.features == "raw"]
    names = {base: study.bases[base].label for base in study.bases}
    footnotes = _footnotes(study, name, entries)
    if any(entry.published for entry in raw):
        yield _block(
            study, "The paper's scores", columns, names, raw, _paper_rows, footnotes=footnotes
        )
    if any(entry.published_difference is not None for entry in raw):
        title = "Difference to the reference, in the paper and here"
        yield _block(
            study,
            title,
            columns,
            names,
            raw,
            _comparison_rows,
            footnotes=_to_base(study, raw),
        )


def _beside_blocks(study: Study, name: str, entries: Sequence[Entry]) -> Iterable[Block]:
    """Columns that the paper's table has, each with the paper's number, ours and ours − paper."""
    raw = [entry for entry in entries if entry.features == "raw"]
    printed = {entry.column for entry in raw if entry.published}
    columns = [column for column in study.tables[name].columns if column in printed]
    if columns:
        yield _block(
            study,
            "Beside the paper's scores",
            columns,
            {base: study.bases[base].label for base in study.bases},
            [entry for entry in raw if entry.column in printed],
            _beside_rows,
            parts=("paper", "ours", "ours − paper"),
            footnotes=_footnotes(study, name, entries) | _to_base(study, raw),
        )


def _to_base(study: Study, entries: Sequence[Entry]) -> dict[str, str]:
    """The footnote of differences that are to the base because the paper has nothing else."""
    arms = dict.fromkeys(e.arm for e in entries if _is_to_base(study, e))
    others = ", ".join(dict.fromkeys(plain_label(study, reference_arm(study, arm)) for arm in arms))
    return {TO_BASE: f"to base: the paper has no {others} in this column."} if arms else {}


def _is_to_base(study: Study, entry: Entry) -> bool:
    return entry.reference != reference_arm(study, entry.arm)


def _footnotes(study: Study, name: str, entries: Sequence[Entry]) -> dict[str, str]:
    number = study.tables[name].published
    marks = dict.fromkeys(e.published.mark for e in entries if e.published and e.published.mark)
    return {mark: f"so marked in Table {number} of the paper." for mark in sorted(marks)}


RowsOf = Callable[[Study, Sequence[Entry], Sequence[Entry]], Iterable[Row]]


def _block(
    study: Study,
    title: str,
    columns: Sequence[str],
    names: Mapping[str, str],
    entries: Sequence[Entry],
    rows_of: RowsOf,
    *,
    parts: tuple[str, ...] = (),
    footnotes: dict[str, str] | None = None,
) -> Block:
    """A block with one group per base; ``rows_of`` makes the rows of an arm, or none."""
    groups = []
    for base in dict.fromkeys(entry.base for entry in entries):
        group = [entry for entry in entries if entry.base == base]
        rows = [
            row
            for arm in dict.fromkeys(entry.arm for entry in group)
            for row in rows_of(study, [entry for entry in group if entry.arm == arm], group)
        ]
        if rows:
            groups.append(Group(names[base], tuple(rows)))
    labels = tuple(study.paradigms[column].label for column in columns)
    return Block(title, labels, tuple(groups), parts, footnotes or {})


def _score_rows(study: Study, arm: Sequence[Entry], group: Sequence[Entry]) -> Iterable[Row]:
    yield Row(study.arm_label(arm[0].arm), tuple(_score(entry, group) for entry in arm))
    if any(entry.difference for entry in arm):
        reference = plain_label(study, reference_arm(study, arm[0].arm))
        cells = tuple(_difference(study, entry) for entry in arm)
        yield Row(f"− {reference}", cells, difference=True)


def _score(entry: Entry, group: Sequence[Entry]) -> Cell:
    if entry.missing:
        return Cell(entry.missing, missing=True)
    rivals = [round(e.mean, 2) for e in group if e.column == entry.column and not e.missing]
    best = len(rivals) > 1 and round(entry.mean, 2) == max(rivals)
    return Cell(value_text(entry.mean, entry.std), bold=best, hint=_hint(entry))


def _hint(entry: Entry) -> str:
    return f"n = {entry.n}" + (f", over {entry.over}" if entry.over else "")


def _difference(study: Study, entry: Entry) -> Cell:
    if entry.difference is None:
        return Cell()
    return difference_cell(entry.difference, TO_BASE if _is_to_base(study, entry) else "")


def _paper_rows(study: Study, arm: Sequence[Entry], group: Sequence[Entry]) -> Iterable[Row]:
    if any(entry.published for entry in arm):
        yield Row(study.arm_label(arm[0].arm), tuple(_paper_score(e, group) for e in arm))


def _paper_score(entry: Entry, group: Sequence[Entry]) -> Cell:
    paper = entry.published
    if paper is None:
        return Cell()
    rivals = [e.published.value for e in group if e.column == entry.column and e.published]
    best = len(rivals) > 1 and paper.value == max(rivals)
    return Cell(value_text(paper.value, paper.std), mark=paper.mark, bold=best)


def _beside_rows(study: Study, arm: Sequence[Entry], group: Sequence[Entry]) -> Iterable[Row]:
    """The scores, and beneath them the differences to the reference."""
    cells: list[Cell] = []
    for entry in arm:
        cells += [_paper_score(entry, group), _score(entry, group)]
        if entry.published is None or entry.missing:
            cells.append(Cell())
        else:
            cells.append(Cell(signed(entry.mean - entry.published.value)))
    yield Row(study.arm_label(arm[0].arm), tuple(cells))
    if not arm[0].reference:
        return
    cells = []
    for entry in arm:
        paper, ours = entry.published_difference, entry.difference
        apart = None if paper is None or ours is None else ours.mean - paper
        cells += [
            _paper_difference(study, entry),
            _difference(study, entry),
            Cell() if apart is None else Cell(signed(apart)),
        ]
    reference = plain_label(study, reference_arm(study, arm[0].arm))
    yield Row(f"− {reference}", tuple(cells), difference=True)


def _paper_difference(study: Study, entry: Entry) -> Cell:
    if entry.published_difference is None:
        return Cell()
    mark = TO_BASE if _is_to_base(study, entry) else ""
    return Cell(signed(entry.published_difference), mark=mark)


def _comparison_rows(study: Study, arm: Sequence[Entry], group: Sequence[Entry]) -> Iterable[Row]:
    if arm[0].arm in (BASE_ARM, "continued") or all(e.published_difference is None for e in arm):
        return
    reference = plain_label(study, reference_arm(study, arm[0].arm))
    name = f"{plain_label(study, arm[0].arm)} − {reference}"
    yield Row(f"{name}, paper", tuple(_paper_difference(study, entry) for entry in arm))
    yield Row(f"{name}, here", tuple(_difference(study, entry) for entry in arm))


def table_part(study: Study, name: str) -> Part:
    """The part that is the table of that name, which the study may lack."""
    main = name in study.main_tables

    def make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
        table = build_table(study, name, collect(inputs["results"]))
        for kind in KINDS:
            outputs[f"{name}.{kind}"].write_text(table.text(kind), encoding="utf-8")

    def lacking(study: Study) -> str:
        if name in study.tables:
            return ""
        return f"study {study.name} has no table {name}: add it under `tables` in its file"

    return Part(
        name=name,
        reads=lambda study: {"results": table_results(study, name)},
        writes=lambda study: table_files(name, name),
        make=make,
        caption="table.rst",
        category="Tables",
        lacking=lacking,
        in_all=main,
        in_full_report=main or name == "ablations",
        rests_on=("reporting/published.csv",),
    )
