"""Whether a model has become better: as it was, whitened, continued, continued with a criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from e2mc.reporting.statistics import (
    Difference,
    Scores,
    Seeds,
    headline_scores,
    paired_difference,
    spread,
)
from e2mc.reporting.verdict import listed, plain_label
from e2mc.study import BASE_ARM, Study

AS_IT_WAS, WHITENED = "as it was", "whitened"
# (name of the score, features that it is of) -> what it is called; they need no labels
MEASURED = {
    ("marginal_entropy", "raw"): "entropy of z",
    ("rankme", "raw"): "RankMe",
    ("alpha_req", "raw"): "α-ReQ",
}


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Attributes:
        label: what it is called.
        runs: candidate -> its scores by seeds.
        best: the candidate with the highest mean; None where there is nothing to compare.
        clear: whether its differences to all others are beyond noise.
    """

    label: str
    runs: Mapping[str, Mapping[Seeds, float]]
    best: str | None
    clear: bool


@dataclass(frozen=True)
class Improvement:
    """What became of a model.

    Attributes:
        columns: accuracies.
        measured: candidate -> what -> mean, without labels.
        verdict: in words.
    """

    columns: tuple[Column, ...]
    measured: Mapping[str, Mapping[str, float]]
    verdict: str

    def table(self) -> str:
        """Markdown: a row per candidate."""
        measured = list(dict.fromkeys(chain.from_iterable(self.measured.values())))
        names = dict.fromkeys(chain(*(column.runs for column in self.columns), self.measured))
        heads = ["", *(column.label for column in self.columns), *measured]
        lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
        for name in names:
            cells = [_cell(column, name) for column in self.columns]
            of_name = self.measured.get(name, {})
            cells += [f"{of_name[what]:.2f}" if what in of_name else "–" for what in measured]
            lines.append([name, *cells])
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def improvement(study: Study, base: str, arm: str, results: pd.DataFrame) -> Improvement:
    """Compares what can be made of a model.

    Args:
        study: whose results they are.
        base: the model.
        arm: with a criterion, compared with the model as it was, whitened, and the arm's reference.
        results: accuracies and measurements, from ``collect``.
    """
    scores = headline_scores(study, results)
    reference, judged = (plain_label(study, name) for name in (study.arms[arm].reference, arm))
    candidates = {
        AS_IT_WAS: (BASE_ARM, "raw"),
        WHITENED: (BASE_ARM, "whitened"),
        reference: (study.arms[arm].reference, "raw"),
        judged: (arm, "raw"),
    }
    columns = tuple(
        _column(paradigm.label, name, base, candidates, scores)
        for name, paradigm in study.paradigms.items()
    )
    columns = tuple(column for column in columns if column.runs)
    gains = {}
    for column in columns:
        if judged in column.runs and AS_IT_WAS in column.runs:
            gain = paired_difference(column.runs[judged], column.runs[AS_IT_WAS])
            if gain is not None:
                gains[column.label] = gain
    return Improvement(
        columns,
        _measured(results, base, candidates),
        _verdict(columns, judged, gains),
    )


def _column(
    label: str,
    paradigm: str,
    base: str,
    candidates: Mapping[str, tuple[str, str]],
    scores: Scores,
) -> Column:
    found = {
        name: scores.get((base, arm, paradigm, features), {})
        for name, (arm, features) in candidates.items()
    }
    runs = {name: values for name, values in found.items() if values}
    if len(runs) < 2:
        return Column(label, runs, None, False)
    best = max(runs, key=lambda name: spread(runs[name].values())[0])
    clear = all(_beyond_noise(runs[best], runs[name]) for name in runs if name != best)
    return Column(label, runs, best, clear)


def _beyond_noise(runs: Mapping[Seeds, float], others: Mapping[Seeds, float]) -> bool:
    """Whether the interval of the difference leaves out 0; one pair cannot tell."""
    # the model as it was has one score, which every run of the other is compared with
    several, single = (runs, others) if len(runs) >= len(others) else (others, runs)
    difference = paired_difference(several, single)
    return difference is not None and difference.sign not in (0, None)


def _measured(
    results: pd.DataFrame, base: str, candidates: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    of_base = results[(results["base"] == base) & (results["paradigm"] == "embeddings")]
    for name, (arm, features) in candidates.items():
        if features != "raw":
            continue
        of_arm = of_base[of_base["arm"] == arm]
        for (metric, kind), label in MEASURED.items():
            values = of_arm[(of_arm["metric"] == metric) & (of_arm["features"] == kind)]["value"]
            if len(values):
                found.setdefault(name, {})[label] = float(values.mean())
    return found


def _verdict(columns: Sequence[Column], judged: str, gains: Mapping[str, Difference]) -> str:
    if not gains:
        return (
            "Without labels nothing can be said about accuracy. A higher entropy and rank say that "
            "the features are spread over more directions, not that these tell your images apart."
        )
    above = [label for label, gain in gains.items() if gain.sign == 1]
    below = [label for label, gain in gains.items() if gain.sign == -1]
    sentences = []
    if above and not below:
        sentences.append(f"{judged} improves the model, on {listed(above)}.")
    elif below and not above:
        sentences.append(f"{judged} makes the model worse, on {listed(below)}: keep it as it was.")
    elif above:
        sentences.append(
            f"{judged} improves the model on {listed(above)} and makes it worse on {listed(below)}."
        )
    else:
        sentences.append(f"No difference between {judged} and the model as it was is beyond noise.")
    clear = [column for column in columns if column.clear and column.best is not None]
    for best in dict.fromkeys(column.best for column in clear):
        where = listed([column.label for column in clear if column.best == best])
        sentences.append(f"Best beyond noise on {where}: {best}.")
    if not clear:
        sentences.append("On no column is one of the four best beyond noise.")
    cheaper = [
        column.label
        for column in columns
        if WHITENED in column.runs
        and judged in column.runs
        and not (
            column.best == judged and _beyond_noise(column.runs[judged], column.runs[WHITENED])
        )
    ]
    if above and cheaper:
        sentences.append(
            f"Whitening, which costs no training, is not beaten on {listed(cheaper)}: try it first."
        )
    return " ".join(sentences)


def _cell(column: Column, name: str) -> str:
    if name not in column.runs:
        return "–"
    mean, std = spread(column.runs[name].values())
    text = f"{mean:.2f}" if std != std else f"{mean:.2f} ± {std:.2f}"
    return f"**{text}**" if column.clear and column.best == name else text
