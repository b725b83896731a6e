"""What a bank of views does to scores, and to the difference that counts, beside fresh views."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from e2mc.errors import InputError
from e2mc.reporting.layout import signed
from e2mc.reporting.part import Inputs, Outputs, Part, missing_key
from e2mc.reporting.results import collect, select
from e2mc.reporting.statistics import NOTHING, Difference, headline_scores, paired_difference
from e2mc.reporting.verdict import plain_label
from e2mc.study import Rows, Run, Study

GAIN = "gain"  # how the frame calls the difference between arm and reference


def bank_biases(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Scores under a bank of views minus those under fresh views, run by run.

    Args:
        study: with a ``views_bank``.
        results: what ``collect`` returns.

    Returns:
        One row per column with fresh views ("fresh"), column with a bank ("bank") and "of": the
        reference, the arm, or "gain", the arm minus its reference. "bias" is the mean in points
        with its 95 % t interval ("ci_low", "ci_high") over "n" seeds; NaN where runs are missing.

    Raises:
        ValueError: when the study has no ``views_bank``.
    """
    shown = study.views_bank
    if shown is None:
        raise InputError(missing_key(study, "views_bank"))
    columns = [name for group in shown.columns for name in group]
    kept = select(study, results, _rows(study), columns, study.seeds.continuation)
    scores = headline_scores(study, kept)
    rows = []
    for fresh, *banks in shown.columns:
        for bank in banks:
            found = {
                arm: _minus(
                    scores.get((shown.base, arm, bank, "raw"), {}),
                    scores.get((shown.base, arm, fresh, "raw"), {}),
                )
                for arm in _arms(study)
            }
            reference, arm = found.values()
            for of, values in (found | {GAIN: _minus(arm, reference)}).items():
                difference = paired_difference(values, dict.fromkeys(values, 0.0))
                rows.append({"fresh": fresh, "bank": bank, "of": of} | _flat(difference))
    return pd.DataFrame(rows)


def biases_in_words(study: Study, biases: pd.DataFrame) -> list[str]:
    """Of each number of labels, whose bias in the gain is within noise."""
    said = [
        "Bias: score under a bank of views minus that under fresh views, the same runs, in points, "
        "with the 95 % t interval over seeds. What counts is the bias of the gain."
    ]
    for fresh in dict.fromkeys(biases["fresh"]):
        gains = biases[(biases["fresh"] == fresh) & (biases["of"] == GAIN)].dropna(subset="ci_low")
        within = (gains["ci_low"] <= 0) & (gains["ci_high"] >= 0)
        for which, verdict in ((within, "within noise"), (~within, "beyond noise")):
            labels = [study.paradigms[bank].label for bank in gains[which]["bank"]]
            if labels:
                said.append(
                    f"{study.paradigms[fresh].label}: bias of the gain {verdict} with "
                    f"{', '.join(labels)}."
                )
    return said


def _arms(study: Study) -> tuple[str, str]:
    """The reference of the arm, and the arm."""
    assert study.views_bank is not None
    return study.arms[study.views_bank.arm].reference, study.views_bank.arm


def _rows(study: Study) -> list[Rows]:
    assert study.views_bank is not None
    return [Rows(base=study.views_bank.base, arms=_arms(study))]


def _minus(scores: dict, others: dict) -> dict:
    return {seeds: scores[seeds] - others[seeds] for seeds in scores if seeds in others}


def _flat(difference: Difference | None) -> dict[str, float]:
    found = difference or NOTHING
    return {"n": found.n, "bias": found.mean, "ci_low": found.low, "ci_high": found.high}


def _runs(study: Study) -> list[Run]:
    return study.runs(_rows(study))


def _reads(study: Study) -> Inputs:
    assert study.views_bank is not None
    columns = [name for group in study.views_bank.columns for name in group]
    return {"results": [study.result_path(r, column) for r in _runs(study) for column in columns]}


def _table(study: Study, biases: pd.DataFrame) -> Iterable[str]:
    """Markdown: a row per bank, a column per arm and the gain."""
    reference, arm = _arms(study)
    kinds = {
        reference: study.arm_label(reference),
        arm: study.arm_label(arm),
        GAIN: f"gain ({plain_label(study, arm)} − {study.arm_label(reference)})",
    }
    yield f"| fresh views | bank | n | {' | '.join(kinds.values())} |"
    yield f"|{'---|' * (3 + len(kinds))}"
    for (fresh, bank), rows in biases.groupby(["fresh", "bank"], sort=False):
        labels = [study.paradigms[str(name)].label for name in (fresh, bank)]
        by_kind = {row.of: row for row in rows.itertuples()}
        cells = [
            f"{signed(by_kind[of].bias)} ({signed(by_kind[of].ci_low)} to "
            f"{signed(by_kind[of].ci_high)})"
            for of in kinds
        ]
        yield f"| {' | '.join([*labels, str(rows['n'].min()), *cells])} |"


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    biases = bank_biases(study, collect(inputs["results"]))
    text = biases.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    outputs["views_bank.csv"].write_text(text, encoding="utf-8")
    table = "\n".join(_table(study, biases))
    text = "\n\n".join([table, *biases_in_words(study, biases)]) + "\n"
    outputs["views_bank.md"].write_text(text, encoding="utf-8")


VIEWS_BANK = Part(
    name="views_bank",
    reads=_reads,
    writes=lambda study: {"tables/views_bank.csv": "", "tables/views_bank.md": ""},
    make=_make,
    lacking=lambda study: missing_key(study, "views_bank"),
    in_all=False,
    in_full_report=False,
)
