"""What a criterion did to the embeddings and the features, before any probe looks at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from e2mc.reporting.action_scores import METRICS, Action, actions
from e2mc.reporting.layout import DOCUMENTS, Block, Cell, Group, Row, difference_cell, value_text
from e2mc.reporting.part import Inputs, Outputs, Part, left_out, missing_main_tables, table_files
from e2mc.reporting.results import read_result
from e2mc.reporting.statistics import spread
from e2mc.study import Study


def action_table(study: Study, found: Sequence[Action], kind: str) -> str:
    """The table in one of ``DOCUMENTS``."""
    write = DOCUMENTS[kind]
    groups = [
        Group(
            study.bases[base].label,
            tuple(row for one in found if one.base == base for row in _rows(study, one)),
        )
        for base in dict.fromkeys(one.base for one in found)
    ]
    headings = (*(heading for heading, _ in METRICS.values()), "closed")
    block = Block("Embeddings z and features of the test images", headings, tuple(groups))
    title = f"What the criteria did: {study.title}"
    return write(title, [block], action_in_words(study, found), _notes(study, found))


def _rows(study: Study, one: Action) -> Iterable[Row]:
    cells = []
    for metric, (_, digits) in METRICS.items():
        mean, std = spread(one.values[metric].values())
        cells.append(Cell(value_text(mean, std, digits), hint=f"n = {len(one.values[metric])}"))
    shares = [f"{100 * mean:.0f} %" for mean in one.shares.values()]
    yield Row(study.arm_label(one.arm), (*cells, Cell(", ".join(shares))))
    if any(one.differences.values()):
        below = [
            Cell() if found is None else difference_cell(found, digits=METRICS[metric][1])
            for metric, found in one.differences.items()
        ]
        reference = study.arm_label(one.reference)
        yield Row(f"− {reference}", (*below, Cell()), difference=True)


def action_in_words(study: Study, found: Sequence[Action]) -> str:
    """Where E2MC raised the entropy of the embeddings beyond noise, and how far."""
    words = {1: "above", -1: "below", 0: "within noise", None: "one pair only"}
    said = []
    for one in found:
        apart = one.differences["marginal_entropy"]
        if "e2mc" in one.closed and apart is not None:
            label = study.bases[one.base].label
            closed = f"{100 * one.shares['e2mc']:.0f} % of the distance to uniform is closed"
            said.append(f"{label}, {study.arm_label(one.arm)}: {words[apart.sign]}, {closed}")
    if not said:
        return "No arm has E2MC as its criterion."
    return f"Entropy of the embeddings against the reference. {'; '.join(said)}."


def _notes(study: Study, found: Sequence[Action]) -> tuple[str, ...]:
    notes = [
        "2,048 test images or all if there are fewer, views drawn and batch-normalised as in "
        "training. Entropy: mean m-spacings entropy of the coordinates on the unit interval, in "
        "nats, near 0 for uniform ones. Covariance: E2MC's term. Correlation: root mean square "
        "over pairs of coordinates. Rank: effective rank of the covariance. Norm: mean length of "
        "the backbone's features, on which a probe's learning rate acts.",
        "Mean ± standard deviation over runs. Rows that begin with − are paired differences, seed "
        "by seed. ▲ above and ▼ below: the 95 % t interval excludes 0. ≈ within noise: it contains "
        "0. ? one pair, no interval.",
        "Closed: the share of the distance between the reference and ideal embeddings that the arm "
        "has closed in its criterion's own term; ideal are as many independent normal coordinates.",
    ]
    wanted = None if study.sweep is None else study.sweep.closes
    for one in found:
        for criterion, share in one.shares.items():
            if wanted is not None and share < wanted:
                notes.append(
                    f"{study.bases[one.base].label}, {study.arm_label(one.arm)}: {100 * share:.0f} "
                    f"% is less than the {100 * wanted:.0f} % for which weights are chosen; "
                    f"where no candidate of {criterion} closes as much, the last stands."
                )
    return tuple(notes)


def _reads(study: Study) -> Inputs:
    return {"results": [study.result_path(run, "embeddings") for run in study.main_runs()]}


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    found = actions(study, map(read_result, inputs["results"]))
    frame = pd.DataFrame([row for one in found for row in one.flat()])
    text = frame.to_csv(index=False, float_format="%.5f", lineterminator="\n")
    outputs["action.csv"].write_text(text, encoding="utf-8")
    for kind in DOCUMENTS:
        outputs[f"action.{kind}"].write_text(action_table(study, found, kind), encoding="utf-8")


ACTION = Part(
    name="action",
    reads=_reads,
    writes=lambda study: table_files("action", "what the criteria did"),
    make=_make,
    caption="action.rst",
    category="Tables",
    lacking=lambda study: missing_main_tables(study) or left_out(study, "embeddings"),
)
