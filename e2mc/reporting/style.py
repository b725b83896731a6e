"""How every figure looks: one column wide, colours that the colour-blind can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from e2mc.study import Study

WIDTH = 3.5  # inches: a column of a paper
INK, GREY, PALE = "#1a1a1a", "#6b6b6b", "#d9d9d9"

# Okabe and Ito 2008, without black and yellow; an arm is always told by its marker too
COLOURS = {
    "base": INK,
    "continued": GREY,
    "e2mc": "#D55E00",
    "vcreg": "#0072B2",
    "mmcr": "#009E73",
    "auh": "#CC79A7",
}
MARKERS = {"base": "s", "continued": "o", "e2mc": "D", "vcreg": "^", "mmcr": "v", "auh": "P"}
SPARE = (("#56B4E9", "X"), ("#E69F00", "p"), ("#0072B2", "<"), ("#009E73", ">"), ("#CC79A7", "h"))

RULES: dict[str, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 300,
    "figure.dpi": 150,
}


def style() -> AbstractContextManager[Any]:
    """Draw and save inside ``with style():``, whatever the user's matplotlibrc says."""
    rules: dict[Any, Any] = {**matplotlib.rcParamsDefault, **RULES}
    return matplotlib.rc_context(rules)


def look(study: Study, arm: str) -> tuple[str, str]:
    """Colour and marker of an arm, the same in every figure of a study."""
    if arm in COLOURS:
        return COLOURS[arm], MARKERS[arm]
    others = [name for name in study.arms if name not in COLOURS]
    return SPARE[others.index(arm) % len(SPARE)]
