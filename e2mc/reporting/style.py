"""How every figure looks: one column wide, colours that the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from e2mc.methods import METHODS
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

# of methods, where bases and not arms are compared
METHOD_LOOKS = {
    "simclr": ("#0072B2", "^"),
    "byol": ("#D55E00", "o"),
    "dino": ("#009E73", "s"),
    "swav": ("#CC79A7", "v"),
    "vicreg": ("#56B4E9", "D"),
    "simsiam": ("#E69F00", "P"),
    "deepcluster": ("#6b6b6b", "X"),
}

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


def arm_handles(study: Study, arms: Iterable[str]) -> list[Line2D]:
    """Entries of a legend, a line per arm."""
    return [Line2D([], [], color=look(study, a)[0], label=study.arm_label(a)) for a in arms]


def method_label(method: str) -> str:
    """What a method is called."""
    return METHODS[method].__name__


def curve_look(method: str, objective: str) -> tuple[str, str, str, str]:
    """Colour, marker, line style and fill of a curve, the same in every figure.

    Args:
        method: a base method's name.
        objective: "own" or "er".
    """
    colour, marker = _method_look(method)
    return colour, marker, *(("-", colour) if objective == "own" else ("--", "white"))


def curve_legend(methods: set[str]) -> list[Line2D]:
    """One entry per method, and one per objective."""
    handles = []
    for method in (*METHOD_LOOKS, *(name for name in METHODS if name not in METHOD_LOOKS)):
        if method in methods:
            colour, marker = _method_look(method)
            label = method_label(method)
            handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=label))
    handles.append(Line2D([], [], color=INK, label="own objective"))
    handles.append(Line2D([], [], color=INK, ls="--", label="ER"))
    return handles


def _method_look(method: str) -> tuple[str, str]:
    if method in METHOD_LOOKS:
        return METHOD_LOOKS[method]
    others = [name for name in METHODS if name not in METHOD_LOOKS]
    return SPARE[others.index(method) % len(SPARE)]


def save_figure(figure: Figure, outputs: Mapping[str, Path], name: str) -> None:
    """Writes ``outputs["<name>.pdf"]`` and .png, the same bytes for the same figure."""
    nothing = {
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
        "png": {"Software": None},
    }
    for kind, metadata in nothing.items():
        with style():
            figure.savefig(outputs[f"{name}.{kind}"], format=kind, metadata=metadata)
