"""Blocks of rows and cells, written as Markdown, LaTeX or HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from e2mc.reporting.statistics import Difference

MARKS = {1: "▲", -1: "▼", 0: "≈", None: "?"}  # by the sign of a difference

LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "†": r"\textdagger{}",
    "*": r"\textasteriskcentered{}",
    "–": "--",
    "²": r"$^2$",
}

STYLE = """\
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  margin: 2rem auto; padding: 0 1rem; max-width: 74rem; }
h1 { font-size: 1.35rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid;
  font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .8rem; text-align: right; white-space: nowrap; }
th { font-weight: 400; } th:first-child { text-align: left; padding-left: 1.2rem; }
thead th { border-bottom: 1px solid; font-weight: 600; }
thead tr.over th { border-bottom: 0; padding-bottom: 0; text-align: center; }
.sets-of-3 :is(td, tr:not(.over) > th[scope=col]):nth-child(3n+2) { padding-left: 2.2rem; }
sup { line-height: 0; } sup a { color: inherit; text-decoration: none; }
.footnote { font-size: .9rem; margin: .3rem 0 0; }
tbody th[colspan] { padding: .55rem .2rem .15rem; font-weight: 600; }
tbody + tbody { border-top: 1px solid #bbb; }
tr.difference > * { color: #595959; font-size: .86em; padding-top: 0; }
tr.difference th { padding-left: 2.2rem; }
tr.difference .clear { color: #1a1a1a; font-weight: 600; }
.missing { color: #767676; font-style: italic; }
.verdict { border-left: 4px solid #0072b2; padding: .2rem 0 .2rem 1rem; max-width: 52rem; }
.notes { color: #444; font-size: .9rem; max-width: 52rem; padding-left: 1.2rem; }
"""


@dataclass(frozen=True)
class Cell:
    """What is printed; ``hint`` is shown where a pointer can rest on it.

    Attributes:
        mark: footnote mark, set as a superscript.
        bold: best of its group.
        clear: a difference beyond noise; HTML prints the others in grey.
        missing: a reason in place of a number.
    """

    text: str = ""
    mark: str = ""
    bold: bool = False
    clear: bool = False
    missing: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """A row; ``difference`` for the small row beneath the scores it belongs to."""

    label: str
    cells: tuple[Cell, ...]
    difference: bool = False


@dataclass(frozen=True)
class Group:
    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Block:
    """A table: rows in groups, and the footnotes that its marks refer to.

    Attributes:
        columns: headings.
        parts: what stands under each heading, side by side; empty for one cell per heading.
        footnotes: mark -> what it says.
    """

    title: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    parts: tuple[str, ...] = ()
    footnotes: dict[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Cells in a row, the label not counted."""
        return len(self.columns) * max(len(self.parts), 1)


def signed(value: float, digits: int = 2) -> str:
    """+0.31, −0.31 with a real minus, 0.00 without a sign."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def value_text(mean: float, std: float | None, digits: int = 2) -> str:
    """83.21 ± 0.12, or the mean alone where no spread is known."""
    text = f"{mean:.{digits}f}".replace("-", "−")
    return text if std is None or math.isnan(std) else f"{text} ± {std:.{digits}f}"


def difference_cell(difference: Difference, mark: str = "", digits: int = 2) -> Cell:
    """A paired difference with its sign beyond noise, and the interval where a pointer rests."""
    text = f"{signed(difference.mean, digits)} {MARKS[difference.sign]}"
    if difference.sign is None:
        return Cell(text, mark=mark, hint="one pair: no interval")
    return Cell(
        text,
        mark=mark,
        clear=difference.sign != 0,
        hint=f"95 % interval {signed(difference.low, digits)} to "
        f"{signed(difference.high, digits)}, n = {difference.n}",
    )


def markdown(title: str, blocks: Iterable[Block], verdict: str, notes: Sequence[str]) -> str:
    """GitHub's Markdown, with columns padded so that the source reads as a table too."""
    parts = [f"### {_md(title)}"]
    for block in blocks:
        lines = [["", *map(_md, _flat_headings(block))]]
        for group in block.groups:
            lines.append([f"**{_md(group.label)}**"] + [""] * block.width)
            lines += [[_md_label(row), *map(_md_cell, row.cells)] for row in group.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
        lines.insert(1, rule)
        parts += [f"**{_md(block.title)}**", "\n".join(_md_lines(lines, widths))]
        parts += [f"{_md(mark)} {_md(text)}" for mark, text in block.footnotes.items()]
    parts += [_md(verdict), "\n".join(f"- {_md(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _flat_headings(block: Block) -> list[str]:
    """Headings for a format that has a single line of them."""
    if not block.parts:
        return list(block.columns)
    return [f"{column}, {part}" for column in block.columns for part in block.parts]


def _md_lines(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for line in lines:
        first, *rest = line
        padded = [first.ljust(widths[0])]
        padded += [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        yield f"| {' | '.join(padded)} |"


def _md_label(row: Row) -> str:
    return f"*{_md(row.label)}*" if row.difference else _md(row.label)


def _md_cell(cell: Cell) -> str:
    text = _md(cell.text)
    text = f"**{text}**" if cell.bold else f"*{text}*" if cell.missing else text
    return text + _md(cell.mark)


def _md(text: str) -> str:
    return re.sub(r"([*_|<\\])", r"\\\1", text)


def latex(title: str, blocks: Iterable[Block], verdict: str, notes: Sequence[str]) -> str:
    """A document with booktabs tables."""
    parts = [
        r"\documentclass[a4paper,landscape,10pt]{article}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[margin=1.5cm]{geometry}",
        r"\usepackage{amssymb,booktabs,textcomp}",
        r"\setlength{\parindent}{0pt}",
        r"\begin{document}",
        rf"\section*{{{_tex(title)}}}",
        r"\small",
    ]
    for block in blocks:
        parts += [
            "",
            r"\begin{minipage}{\linewidth}",
            rf"\textbf{{{_tex(block.title)}}}\par\smallskip",
            rf"\begin{{tabular}}{{@{{}}l{'r' * block.width}@{{}}}}",
            r"\toprule",
            " & ".join(["", *map(_tex, _flat_headings(block))]) + r" \\",
        ]
        for group in block.groups:
            parts += [
                r"\midrule",
                rf"\multicolumn{{{block.width + 1}}}{{@{{}}l}}"
                rf"{{\textbf{{{_tex(group.label)}}}}} \\",
            ]
            for row in group.rows:
                size = r"\footnotesize " if row.difference else ""
                indent = r"\quad\quad " if row.difference else r"\quad "
                cells = [indent + size + _tex(row.label)]
                cells += [size + _tex_cell(cell) if cell.text else "" for cell in row.cells]
                parts.append(" & ".join(cells) + r" \\")
        parts += [r"\bottomrule", r"\end{tabular}"]
        parts += [
            rf"\par\smallskip\footnotesize\textsuperscript{{{_tex(mark)}}}{_tex(text)}"
            for mark, text in block.footnotes.items()
        ]
        parts += [r"\end{minipage}", r"\bigskip"]
    parts += ["", _tex(verdict), "", r"\footnotesize", r"\begin{itemize}"]
    parts += [rf"  \item {_tex(note)}" for note in notes]
    parts += [r"\end{itemize}", r"\end{document}"]
    return "\n".join(parts) + "\n"


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell.text)
    if cell.bold:
        text = rf"\boldmath\textbf{{{text}}}"
    elif cell.missing:
        text = rf"\textit{{{text}}}"
    return text + (rf"\textsuperscript{{{_tex(cell.mark)}}}" if cell.mark else "")


def _tex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def html(title: str, blocks: Iterable[Block], verdict: str, notes: Sequence[str]) -> str:
    """A document that needs nothing else."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>\n{STYLE}</style></head>",
        f"<body>\n<h1>{escape(title)}</h1>",
    ]
    for number, block in enumerate(blocks, 1):
        sets = f' class="sets-of-{len(block.parts)}"' if block.parts else ""
        notes_of = {mark: f"note-{number}-{i}" for i, mark in enumerate(block.footnotes, 1)}
        parts += [
            f"<h2>{escape(block.title)}</h2>",
            f'<div class="wide"><table{sets}>\n<thead>{_html_head(block)}</thead>',
        ]
        for group in block.groups:
            parts.append(
                f'<tbody>\n<tr><th scope="rowgroup" colspan="{block.width + 1}">'
                f"{escape(group.label)}</th></tr>"
            )
            for row in group.rows:
                kind = ' class="difference"' if row.difference else ""
                cells = "".join(_html_cell(cell, notes_of) for cell in row.cells)
                parts.append(f'<tr{kind}><th scope="row">{escape(row.label)}</th>{cells}</tr>')
            parts.append("</tbody>")
        parts.append("</table></div>")
        parts += [
            f'<p class="footnote" id="{notes_of[mark]}"><sup>{mark}</sup> {escape(text)}</p>'
            for mark, text in block.footnotes.items()
        ]
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    parts += [
        f'<p class="verdict">{escape(verdict)}</p>',
        f'<ul class="notes">\n{items}\n</ul>',
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _html_head(block: Block) -> str:
    """One row of headings, or two where several cells stand under each."""
    if not block.parts:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in block.columns)
        return f"<tr><th></th>{head}</tr>"
    head = "".join(
        f'<th scope="colgroup" colspan="{len(block.parts)}">{escape(column)}</th>'
        for column in block.columns
    )
    parts = "".join(f'<th scope="col">{escape(part)}</th>' for part in block.parts)
    return f'<tr class="over"><th></th>{head}</tr>\n<tr><th></th>{parts * len(block.columns)}</tr>'


def _html_cell(cell: Cell, notes: Mapping[str, str]) -> str:
    text = escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.bold else text
    if cell.mark:
        text += f'<sup><a href="#{notes[cell.mark]}">{cell.mark}</a></sup>'
    kind = ' class="missing"' if cell.missing else ' class="clear"' if cell.clear else ""
    hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
    return f"<td{kind}{hint}>{text}</td>"


DOCUMENTS = {"md": markdown, "tex": latex, "html": html}  # by the ending of their files
