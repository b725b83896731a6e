"""Whether a model has become better: as it was, whitened, continued, continued with a criterion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
ENTROPY = "entropy of z"
# (name of the score, features that it is of) -> what it is called; they need no labels
MEASURED = {
    ("marginal_entropy", "raw"): ENTROPY,
    ("correlation_rms", "raw"): "correlation of z",
    ("embedding_rank", "raw"): "effective rank of z",
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
        measured: candidate -> what -> its values by seeds, which need no labels.
        verdict: in words.
    """

    columns: tuple[Column, ...]
    measured: Mapping[str, Mapping[str, Mapping[Seeds, float]]]
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
            cells += [_mean(of_name[what]) if what in of_name else "–" for what in measured]
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
    measured = _measured(results, base, candidates)
    sentences = [
        _verdict(columns, judged, gains),
        *_entropy_in_words(measured, reference, judged),
        *([] if gains else _ranks_in_words(measured, reference, judged)),
    ]
    return Improvement(columns, measured, " ".join(sentences))


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
) -> dict[str, dict[str, dict[Seeds, float]]]:
    found: dict[str, dict[str, dict[Seeds, float]]] = {}
    of_base = results[(results["base"] == base) & (results["paradigm"] == "embeddings")]
    for name, (arm, features) in candidates.items():
        if features != "raw":
            continue
        of_arm = of_base[of_base["arm"] == arm]
        for (metric, kind), label in MEASURED.items():
            rows = of_arm[(of_arm["metric"] == metric) & (of_arm["features"] == kind)]
            if len(rows):
                found.setdefault(name, {})[label] = {
                    (int(base_seed), None if pd.isna(seed) else int(seed)): float(value)
                    for base_seed, seed, value in zip(
                        rows["base_seed"], rows["continuation_seed"], rows["value"], strict=True
                    )
                }
    return found


def _entropy_in_words(
    measured: Mapping[str, Mapping[str, Mapping[Seeds, float]]], reference: str, judged: str
) -> Iterator[str]:
    """Whether the criterion has done what it is for: raised the entropy of what it sees."""
    values = {name: of_name[ENTROPY] for name, of_name in measured.items() if ENTROPY in of_name}
    if not {reference, judged} <= values.keys():
        return
    means = [f"{_mean(of_name)} {name}" for name, of_name in values.items() if name != AS_IT_WAS]
    before = ""
    if AS_IT_WAS in values:  # its z is not that of the others, see ``Anchor``
        before = f"; {_mean(values[AS_IT_WAS])} {AS_IT_WAS}, standardised by its own batches"
    yield f"Entropy of z in nats (0 is the highest): {', '.join(means)}{before}."
    moved = paired_difference(values[judged], values[reference])
    if moved is None or moved.sign is None:
        return
    interval = f"{moved.mean:+.3f} [{moved.low:+.3f}, {moved.high:+.3f}] against {reference}"
    if moved.sign > 0:
        yield f"The criterion acts: {interval}."
    elif moved.sign < 0:
        yield f"The criterion has not raised it, it fell: {interval}."
    else:
        yield (
            f"The criterion did nothing that can be told from noise: {interval}. What differs is "
            "not its doing; raise its weights, or train for more epochs."
        )


def _ranks_in_words(
    measured: Mapping[str, Mapping[str, Mapping[Seeds, float]]], reference: str, judged: str
) -> Iterator[str]:
    """What else has changed where nothing is labelled."""
    ranks = [label for label in MEASURED.values() if label != ENTROPY]
    parts = []
    for label in ranks:
        if not all(label in measured.get(name, {}) for name in (reference, judged)):
            continue
        change = paired_difference(measured[judged][label], measured[reference][label])
        if change is not None and change.sign:
            parts.append(f"{label} {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]")
    if parts:
        yield f"{judged} − {reference}, beyond noise: {', '.join(parts)}."
    else:
        yield f"No rank or correlation differs between {judged} and {reference} beyond noise."


def _mean(values: Mapping[Seeds, float]) -> str:
    mean = spread(values.values())[0]
    return f"{mean:.3f}" if abs(mean) < 10 else f"{mean:.1f}"


def _verdict(columns: Sequence[Column], judged: str, gains: Mapping[str, Difference]) -> str:
    if not gains:
        return (
            "Without labels nothing can be said about accuracy. A higher entropy or rank says that "
            "the features are spread more evenly or over more directions, not that these tell your "
            "images apart: label a few hundred and run this again to learn which model is better."
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
