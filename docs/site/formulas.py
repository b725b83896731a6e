"""Formulas of docstrings, which are plain text, as MathML: for the pages of the site.

What is understood is the notation that the docstrings have: a name of one letter or of a Greek one
takes what follows its underscore as an index (u_v, z_vnd, mu_v), a longer one is a parameter
(entropy_weight); sum, int, mean and the like are operators; a/b without spaces is a fraction, with
spaces a stroke. A name that nobody knows is shown as it is, so that no formula fails.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from latex2mathml.converter import convert

GREEK = {"alpha", "beta", "delta", "epsilon", "gamma", "kappa", "lambda", "mu", "pi", "sigma"}
GREEK |= {"tau", "theta", "Phi", "Sigma"}
BIG = {"sum": r"\sum", "int": r"\int", "prod": r"\prod"}
SIGNS = {"<-": r"\leftarrow ", "->": r"\to ", "<=": r"\le ", ">=": r"\ge ", "!=": r"\ne "}
SIGNS |= {"*": r"\cdot ", " . ": r"\cdot ", "...": r"\dots ", "~": r"\sim "}
TOKEN = re.compile(
    r"\d+(?:\.\d+)?e-?\d+|\d+(?:\.\d+)?|[A-Za-z]+(?:_[A-Za-z]+)*|\|\||<-|->|<=|>=|!=|\.\.\.| \. "
    r"| / |\s+|\S"
)
BLOCK = re.compile(r"((?:^ {4,}\S.*\n?)+)", re.MULTILINE)
SECTION = re.compile(r"^[A-Z][\w ]*(?:\(.*\))?:$")


def with_formulas(docstring: str) -> str:
    """A docstring whose indented formulas are MathML; its sections are left alone."""
    paragraphs = re.split(r"\n{2,}", docstring)
    return "\n\n".join(
        displayed(text) if _is_formula(text) else _listed(text) for text in paragraphs
    )


def displayed(block: str) -> str:
    """A block of formulas, one a line, as HTML without line breaks.

    A line that begins with a sign, or further in than the first one, goes on with the one before.
    """
    lines = [line for line in block.splitlines() if line.strip()]
    indent = len(lines[0]) - len(lines[0].lstrip())
    rows: list[str] = []
    for line in lines:
        text = line.strip()
        if rows and (text[0] in "+-*" or len(line) - len(line.lstrip()) > indent):
            rows[-1] += f" {text}"
        else:
            rows.append(text)
    shown = "".join(convert(latex(row), display="block") for row in rows)
    plain = html.escape("\n".join(rows), quote=True).replace("\n", "&#10;")
    return f'<div class="formula" title="{plain}">{shown}</div>'


def _is_formula(paragraph: str) -> bool:
    lines = paragraph.splitlines()
    written = bool(re.search(r"=|<-", paragraph)) and ">>>" not in paragraph
    return written and all(line.startswith("    ") for line in lines)


def _listed(paragraph: str) -> str:
    """The items of a section that docstring parsers do not know (Terms, Buffers) as a list."""
    head, *items = paragraph.split("\n")
    if not re.match(r"(Terms|Buffers)\b.*:$", head):
        return paragraph
    return "\n".join([head, *(re.sub(r"^ {4}(\w+): ", r"    * `\1`: ", item) for item in items)])


def latex(formula: str) -> str:
    """A formula in the notation of the docstrings as LaTeX."""
    return _Formula(formula).read()


class _Formula:
    """Reads a formula from left to right, an item of it at a time."""

    def __init__(self, text: str) -> None:
        # what stands apart after a formula is a remark
        self.text, *remark = re.split(r"\s{3,}", text, maxsplit=1)
        self.remark = remark[0] if remark else ""
        if re.search(r"[=<]", self.remark):
            self.text, self.remark = text, ""
        self.tokens = _without_needless_spaces(TOKEN.findall(self.text))
        self.place = 0
        self.bars: list[str] = []

    def read(self) -> str:
        written = " ".join(self._items(end=None))
        if self.remark:
            written += rf"\quad \text{{{self.remark.replace('_', ' ')}}}"
        return written

    def _items(self, end: str | None) -> Iterator[str]:
        """What there is up to a closing bracket."""
        while (token := self._peek()) is not None and token != end:
            item = self._item()
            while self._peek() == "/":
                self.place += 1
                item = rf"\frac{{{_bare(item)}}}{{{_bare(self._item())}}}"
            yield item
        self.place += 1

    def _peek(self) -> str | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def _item(self) -> str:
        """One sign, number, name or bracket with what stands above and below it."""
        token = self.tokens[self.place]
        self.place += 1
        written = self._plain(token)
        while self._peek() in ("_", "^"):
            script = self.tokens[self.place]
            self.place += 1
            written += f"{script}{{{self._script(script)}}}"
        return written

    def _script(self, script: str) -> str:
        token = self._peek()
        if token == "-":
            self.place += 1
            return f"-{self._script(script)}"
        if token == "*":
            self.place += 1
            return "*"
        if script == "^" and token == "T":
            self.place += 1
            return r"\top"
        self.place += 1
        written = self._plain(token or "")
        return _bare(written) if script == "^" else written

    def _plain(self, token: str) -> str:
        if token in "([{":
            close = {"(": ")", "[": "]", "{": "}"}[token]
            inside = " ".join(self._items(end=close))
            return inside if token == "{" else rf"\left{token} {inside} \right{close}"
        if token in ("|", "||"):
            return self._bar(token)
        if token in SIGNS:
            return SIGNS[token]
        if re.fullmatch(r"[\d.]+e-?\d+", token):
            factor, power = token.split("e")
            return f"10^{{{power}}}" if factor == "1" else rf"{factor} \cdot 10^{{{power}}}"
        if token[0].isalpha():
            return self._name(token)
        return {" / ": "/", "%": r"\%"}.get(token, token.strip() or r"\,")

    def _name(self, token: str) -> str:
        base, _, index = token.partition("_")
        if re.fullmatch("d[a-z]", token):
            return rf"\, \mathrm{{d}} {token[1]}"
        if base in BIG or len(base) == 1 or base in GREEK or (index and len(index) == 1):
            below = f"_{{{_index(index)}}}" if index else ""
            return _symbol(base) + below
        if index:
            return rf"\text{{{token}}}"
        if token == "sqrt" and self._peek() == "(":
            return rf"\sqrt{{{_bare(self._item())}}}"
        return _symbol(token)

    def _bar(self, token: str) -> str:
        sign = r"\Vert" if token == "||" else "|"
        if self.bars and self.bars[-1] == token:
            self.bars.pop()
        else:
            self.bars.append(token)
        return f"{sign} "


def _without_needless_spaces(tokens: list[str]) -> list[str]:
    """Without the spaces beside signs, which set their own; those between factors stay."""

    def factor(token: str) -> bool:
        return token[0].isalnum() or token in "()|"

    around = zip(["+", *tokens], tokens, [*tokens[1:], "+"])
    return [
        token
        for before, token, after in around
        if not token.isspace()
        or (factor(before) and factor(after) and before != "(" and after != ")")
    ]


def _symbol(name: str) -> str:
    if name in BIG:
        return BIG[name]
    if name in GREEK:
        return rf"\{name} "
    return name if len(name) == 1 else rf"\operatorname{{{name}}}"


def _index(name: str) -> str:
    """Letters of an index, one by one unless they are a word: z_vnd has three, t_max one."""
    return rf"\text{{{name}}}" if name in ("max", "min") else " ".join(name)


def _bare(written: str) -> str:
    """Without the brackets that a fraction, a root or an exponent makes superfluous."""
    found = re.fullmatch(r"\\left\( (.*) \\right\)", written)
    return (
        found[1] if found and found[1].count(r"\left(") == found[1].count(r"\right)") else written
    )
