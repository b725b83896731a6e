"""The paper's tables from result files: one content, written as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

import pandas as pd

from e2mc.reporting.published import published_value
from e2mc.reporting.statistics import Cell, Difference, cell, reference_of, run_scores
from e2mc.study import BASE_ARM, Linear, Study

LEGEND = (
    "Mean ± standard deviation over seeds, in percent. In brackets the paired difference to the "
    "reference (a criterion: continued pre-training with the same seeds; continued: the base), "
    "▲ or ▼ where its 95 % interval (Student's t) excludes zero, ≈ where the difference is within "
    "noise. Bold: the highest mean of the group."
)


@dataclass(frozen=True)
class Line:
    """One printed line: the label of a group of rows, or a row with one text per column."""

    label: str
    texts: tuple[str, ...] = ()
    bold: tuple[bool, ...] = ()

    @property
    def is_group(self) -> bool:
        return not self.texts


@dataclass(frozen=True)
class Block:
    """A printed table with its heading."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        title: heading.
        blocks: printed tables, the main one first.
        notes: paragraphs below.
        cells: tidy rows for the CSV.
    """

    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    cells: pd.DataFrame

    def csv(self) -> str:
        return self.cells.to_csv(index=False, float_format="%.4f")

    def markdown(self) -> str:
        parts = [f"## {self.title}"]
        for block in self.blocks:
            rows = [["", *block.columns], ["---", *["---:"] * len(block.columns)]]
            for line in block.lines:
                texts = [
                    f"**{text}**" if bold else text
                    for text, bold in zip(line.texts, line.bold, strict=True)
                ]
                label = f"*{line.label}*" if line.is_group else line.label
                rows.append([label, *(texts or [""] * len(block.columns))])
            lines = ["| " + " | ".join(row) + " |" for row in rows]
            parts += [f"**{block.title}**", "\n".join(lines)]
        return "\n\n".join([*parts, *self.notes]) + "\n"

    def latex(self) -> str:
        body = []
        for block in self.blocks:
            spec = "l" + "r" * len(block.columns)
            lines = [
                rf"\section*{{{_latex(block.title)}}}",
                rf"\begin{{tabular}}{{{spec}}}",
                r"\toprule",
                " & ".join(["", *map(_latex, block.columns)]) + r" \\",
            ]
            for line in block.lines:
                if line.is_group:
                    width = len(block.columns) + 1
                    label = rf"\multicolumn{{{width}}}{{l}}{{\emph{{{_latex(line.label)}}}}}"
                    lines += [r"\midrule", label + r" \\"]
                    continue
                texts = [
                    rf"\textbf{{{_latex(text)}}}" if bold else _latex(text)
                    for text, bold in zip(line.texts, line.bold, strict=True)
                ]
                lines.append(" & ".join([_latex(line.label), *texts]) + r" \\")
            lines += [r"\bottomrule", r"\end{tabular}"]
            body.append("\n".join(lines))
        notes = "\n\n".join(_latex(note) for note in self.notes)
        return _LATEX % (_latex(self.title), "\n\n".join(body), notes)

    def html(self) -> str:
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        for block in self.blocks:
            rows = ["<tr><th></th>" + _tags("th", block.columns) + "</tr>"]
            for line in block.lines:
                if line.is_group:
                    width = len(block.columns) + 1
                    label = html.escape(line.label)
                    rows.append(f'<tr class="group"><th colspan="{width}">{label}</th></tr>')
                    continue
                texts = "".join(
                    f"<td{' class=best' if bold else ''}>{html.escape(text)}</td>"
                    for text, bold in zip(line.texts, line.bold, strict=True)
                )
                rows.append(f"<tr><th>{html.escape(line.label)}</th>{texts}</tr>")
            parts.append(f"<h2>{html.escape(block.title)}</h2><table>{''.join(rows)}</table>")
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return _HTML % (html.escape(self.title), "\n".join(parts))


def build_table(study: Study, name: str, results: pd.DataFrame) -> Table:
    """A table of the study from collected results.

    The main block, the linear columns again on whitened features, and where the study names the
    paper's table, the criterion's gain there beside ours.
    """
    spec = study.tables[name]
    kinds = {"raw": list(spec.columns)}
    kinds["whitened"] = [c for c in spec.columns if isinstance(study.paradigms[c], Linear)]
    cells = {
        (base, arm, column, features): found
        for features, columns in kinds.items()
        for column in columns
        for scores in [run_scores(study, results, column, features)]
        for base, arm in _rows(study, name)
        if (found := cell(study, scores, base, arm)) is not None
    }
    heading = f"{spec.title} ({study.title})"
    blocks = [_score_block(study, name, kinds["raw"], cells, "raw", heading)]
    if kinds["whitened"]:
        title = "The same on whitened features, a control that needs no training"
        blocks.append(_score_block(study, name, kinds["whitened"], cells, "whitened", title))
    if spec.published is not None:
        blocks.append(_published_block(study, name, cells))
    notes = [LEGEND, _seeds_note(study), *_verdict(study, name, cells), *_code_note(results)]
    return Table(heading, tuple(blocks), tuple(notes), _tidy(study, name, kinds, cells))


Cells = dict[tuple[str, str, str, str], Cell]


def _rows(study: Study, name: str) -> list[tuple[str, str]]:
    return [(row.base, arm) for row in study.tables[name].rows for arm in row.arms]


def _score_block(
    study: Study, name: str, columns: list[str], cells: Cells, features: str, title: str
) -> Block:
    lines = []
    for row in study.tables[name].rows:
        lines.append(Line(study.bases[row.base].label))
        grid = {
            arm: [cells.get((row.base, arm, column, features)) for column in columns]
            for arm in row.arms
        }
        best = [
            max((item.mean for item in column if item is not None), default=math.nan)
            for column in zip(*grid.values(), strict=True)
        ]
        for arm, found in grid.items():
            lines.append(
                Line(
                    study.arm_label(arm),
                    tuple(_text(item) for item in found),
                    tuple(
                        item is not None and item.mean == highest
                        for item, highest in zip(found, best, strict=True)
                    ),
                )
            )
    labels = tuple(study.paradigms[column].label for column in columns)
    return Block(title, labels, tuple(lines))


def _text(found: Cell | None) -> str:
    if found is None:
        return "not run"
    text = f"{found.mean:.2f}"
    if not math.isnan(found.std):
        text += f" ± {found.std:.2f}"
    if found.difference is not None:
        text += f" ({_signed(found.difference.mean)} {found.difference.mark})"
    return text


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _published_block(study: Study, name: str, cells: Cells) -> Block:
    """Criterion minus continued, in points: the paper's and ours."""
    spec = study.tables[name]
    lines = []
    for row in spec.rows:
        lines.append(Line(study.bases[row.base].label))
        for arm in row.arms:
            if arm in (BASE_ARM, "continued"):
                continue
            theirs = tuple(_published_gain(study, name, row.base, arm, c) for c in spec.columns)
            ours = tuple(
                "not run"
                if (found := cells.get((row.base, arm, c, "raw"))) is None
                or found.difference is None
                else f"{_signed(found.difference.mean)} {found.difference.mark}"
                for c in spec.columns
            )
            plain = (False,) * len(spec.columns)
            lines.append(Line(f"{study.arm_label(arm)}, paper", theirs, plain))
            lines.append(Line(f"{study.arm_label(arm)}, here", ours, plain))
    title = "Gain over continued pre-training, in points: the paper (ImageNet, ResNet-50) and here"
    return Block(title, tuple(study.paradigms[c].label for c in spec.columns), tuple(lines))


def _published_gain(study: Study, name: str, base: str, arm: str, column: str) -> str:
    table, label = study.tables[name].published, study.bases[base].published
    if table is None or label is None:
        return "–"
    mine = published_value(table, label, arm, column)
    other = published_value(table, label, "continued", column)
    if mine is None or other is None:
        return "–"
    return f"{_signed(mine['value'] - other['value'])}{mine['mark']}"


def _seeds_note(study: Study) -> str:
    bases, runs = len(study.seeds.base), len(study.seeds.continuation)
    note = (
        f"Runs per cell: {bases} pre-trained model{'s' if bases > 1 else ''} x {runs} seeds of "
        "continued pre-training; the base itself is one run per model."
    )
    if bases == 1:
        note += (
            " The intervals are over the continuation seeds of one pre-trained model each; how the "
            "differences vary from one pre-training to another they do not cover."
        )
    return note


def _verdict(study: Study, name: str, cells: Cells) -> list[str]:
    """For every arm with a reference of its own kind: in how many cells it is above or below."""
    found: list[tuple[str, Difference]] = []
    for (_, arm, _, features), item in cells.items():
        if arm not in (BASE_ARM, "continued") and features == "raw" and item.difference is not None:
            found.append((arm, item.difference))
    lines = []
    for arm in dict.fromkeys(arm for arm, _ in found):
        marks = [difference.mark for other, difference in found if other == arm]
        above, below = marks.count("▲"), marks.count("▼")
        against = study.arm_label(reference_of(study, arm) or BASE_ARM)
        text = (
            f"{study.arm_label(arm)} against {against}, raw features: above in {above}, below in "
            f"{below}, within noise in {len(marks) - above - below} of {len(marks)} cells."
        )
        if above <= below:
            text += " At this scale it does not help."
        lines.append(text)
    if lines:
        lines.append(
            "With 95 % intervals about one cell in twenty leaves zero by chance; no correction for "
            "the number of cells was made."
        )
    return lines


def _code_note(results: pd.DataFrame) -> list[str]:
    versions = results["code_hash"].nunique()
    if versions == 1:
        return []
    return [f"These results come from {versions} versions of the code (code_hash in results.csv)."]


def _tidy(study: Study, name: str, kinds: dict[str, list[str]], cells: Cells) -> pd.DataFrame:
    spec = study.tables[name]
    rows = []
    for features, columns in kinds.items():
        for base, arm in _rows(study, name):
            for column in columns:
                found = cells.get((base, arm, column, features))
                difference = None if found is None else found.difference
                label = study.bases[base].published
                theirs = None
                if spec.published is not None and label is not None and features == "raw":
                    theirs = published_value(spec.published, label, arm, column)
                rows.append(
                    {
                        "base": base,
                        "arm": arm,
                        "column": column,
                        "features": features,
                        "n": 0 if found is None else found.n,
                        "mean": None if found is None else found.mean,
                        "std": None if found is None else found.std,
                        "reference": reference_of(study, arm),
                        "difference": None if difference is None else difference.mean,
                        "ci_low": None if difference is None else difference.low,
                        "ci_high": None if difference is None else difference.high,
                        "within_noise": None if difference is None else difference.mark == "≈",
                        "published_value": None if theirs is None else theirs["value"],
                        "published_std": None if theirs is None else theirs["std"],
                        "published_mark": None if theirs is None else theirs["mark"],
                        "missing": "not run" if found is None else None,
                    }
                )
    return pd.DataFrame(rows)


def _tags(tag: str, texts: tuple[str, ...]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _latex(text: str) -> str:
    replaced = {
        "\\": r"\textbackslash{}",
        "%": r"\%",
        "&": r"\&",
        "_": r"\_",
        "#": r"\#",
        "±": r"$\pm$",
        "−": r"$-$",
        "–": "--",
        "▲": r"$\blacktriangle$",
        "▼": r"$\blacktriangledown$",
        "≈": r"$\approx$",
        "†": r"$^\dagger$",
    }
    return "".join(replaced.get(char, char) for char in text)


_LATEX = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{amssymb}
\usepackage{booktabs}
\usepackage[landscape, margin=1cm]{geometry}
\setlength{\parindent}{0pt}
\begin{document}
\section*{%s}
\small
%s

\bigskip
%s
\end{document}
"""

_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>%s</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem;
  color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; }
td, th { padding: .25rem .7rem; text-align: right; font-weight: normal; white-space: nowrap; }
th:first-child { text-align: left; }
tr:first-child th { border-bottom: 1px solid; }
tr.group th { font-style: italic; border-top: 1px solid #aaa; }
.best { font-weight: bold; }
p { max-width: 60rem; }
</style>
</head>
<body>
%s
</body>
</html>
"""
