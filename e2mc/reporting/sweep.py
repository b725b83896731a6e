"""The candidates of a sweep, compared where no table looks: learning rates first, then weights.

Weights are chosen by validation scores, or without labels by what they do to the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from e2mc.errors import InputError
from e2mc.reporting.action_scores import Action, actions
from e2mc.reporting.layout import signed
from e2mc.reporting.part import Inputs, Outputs, Part, missing_key
from e2mc.reporting.results import collect, read_result, select
from e2mc.reporting.statistics import headline_scores, paired_difference, reference_arm, spread
from e2mc.study import BASE_ARM, Rows, Run, Study


def compare_candidates(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Validation scores of the sweep's arms, with seeds that no table reports.

    Args:
        study: with a sweep.
        results: what ``collect`` returns.

    Returns:
        One row per base and arm: the headline score of each column on the validation split (raw
        features, mean over seeds), "mean" over the columns, and "gain" of that mean over the
        reference arm with the same seeds. The best gain of a base comes first.

    Raises:
        ValueError: when the study has no sweep.
    """
    sweep = study.sweep
    if sweep is None:
        raise InputError(missing_key(study, "sweep"))
    shown = [*rate_rows(study), *sweep.rows]
    kept = select(study, results, shown, sweep.columns, sweep.seeds)
    scores = headline_scores(study, kept, split="validation")
    rows = []
    for row in sweep.rows:
        for arm in row.arms:
            runs = [scores.get((row.base, arm, column, "raw"), {}) for column in sweep.columns]
            reference = reference_arm(study, arm)
            gains = [
                paired_difference(of_column, scores.get((row.base, reference, column, "raw"), {}))
                for of_column, column in zip(runs, sweep.columns, strict=True)
            ]
            means = pd.Series([spread(of_column.values())[0] for of_column in runs])
            rows.append(
                {
                    "base": row.base,
                    "arm": arm,
                    **dict(zip(sweep.columns, means, strict=True)),
                    "mean": means.mean(skipna=False),
                    "gain": pd.Series([gain and gain.mean for gain in gains], dtype=float).mean(
                        skipna=False
                    ),
                }
            )
    frame = pd.DataFrame(rows)
    order = frame["base"].map({base: i for i, base in enumerate(study.bases)})
    return (
        frame.assign(order=order)
        .sort_values(["order", "gain"], ascending=[True, False], kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )


def compare_rates(study: Study, results: pd.DataFrame) -> pd.DataFrame:
    """Validation scores of the sweep's learning rates beside those of the base itself.

    Args:
        study: with a sweep that has rates.
        results: what ``collect`` returns.

    Returns:
        One row per base and arm, by rising rate: "lr", the headline score of each column on the
        validation split (raw features, mean over seeds), "apart", the difference to the base of
        the column where it is largest, NaN where one is missing, and "taken": whether it is the
        largest rate of its base whose "apart" is within ``study.sweep.rates.within``, both to two
        decimals.

    Raises:
        ValueError: when the study's sweep has no rates.
    """
    if lacking := _lacks_rates(study):
        raise InputError(lacking)
    sweep = study.sweep
    assert sweep is not None and sweep.rates is not None
    kept = select(study, results, rate_rows(study), sweep.columns, sweep.seeds)
    scores = headline_scores(study, kept, split="validation")
    rows = []
    for row in sweep.rates.rows:
        for arm in row.arms:
            runs = [scores.get((row.base, arm, column, "raw"), {}) for column in sweep.columns]
            base = [scores.get((row.base, BASE_ARM, column, "raw"), {}) for column in sweep.columns]
            apart = [paired_difference(*pair) for pair in zip(runs, base, strict=True)]
            known = [difference.mean for difference in apart if difference is not None]
            means = [spread(of_column.values())[0] for of_column in runs]
            rows.append(
                {
                    "base": row.base,
                    "arm": arm,
                    "lr": study.training_spec(Run(row.base, arm, 0, 0)).optimizer.lr,
                    **dict(zip(sweep.columns, means, strict=True)),
                    "apart": max(known, key=abs) if len(known) == len(apart) else float("nan"),
                }
            )
    frame = pd.DataFrame(rows)
    order = frame["base"].map({base: i for i, base in enumerate(study.bases)})
    frame = frame.assign(order=order).sort_values(["order", "lr"], kind="stable")
    allowed = frame[frame["apart"].round(2).abs() <= sweep.rates.within]
    largest = allowed.groupby("base")["lr"].idxmax()
    frame["taken"] = frame.index.isin(largest)
    return frame.drop(columns="order").reset_index(drop=True)


def compare_closed(study: Study, found: Sequence[Action]) -> pd.DataFrame:
    """How much of its distance to ideal embeddings each candidate closes.

    Args:
        study: with a sweep that has ``closes``.
        found: what each candidate did.

    Returns:
        One row per base, arm and criterion in the order of the sweep: "closed", a share, the mean
        over seeds, and "taken": whether it is the first of its base and criterion that closes
        enough, or the last where none does.
    """
    sweep = study.sweep
    assert sweep is not None and sweep.closes is not None
    frame = pd.DataFrame(
        [
            {"base": one.base, "arm": one.arm, "criterion": criterion, "closed": share}
            for one in found
            for criterion, share in one.shares.items()
        ]
    )
    taken = [
        next((i for i in group.index if group["closed"][i] >= sweep.closes), group.index[-1])
        for _, group in frame.groupby(["base", "criterion"], sort=False)
    ]
    return frame.assign(taken=frame.index.isin(taken))


def closed_in_words(study: Study, candidates: pd.DataFrame) -> list[str]:
    """What the rule takes of each base and criterion, and where the study has other weights."""
    assert study.sweep is not None and study.sweep.closes is not None
    least = study.sweep.closes
    said = [
        "The rule: of each base and criterion the first candidate is taken that closes at least "
        f"{100 * least:.0f} % of the distance between its reference and ideal embeddings in the "
        "criterion's own term, without labels; the last where none does."
    ]
    for row in candidates[candidates["taken"]].itertuples():
        enough = "" if row.closed >= least else ": none closes as much"
        said.append(
            f"{study.bases[row.base].label}, {row.criterion}: {row.arm} is taken "
            f"({100 * row.closed:.0f} %){enough}."
        )
    return said


def rate_rows(study: Study) -> list[Rows]:
    """The runs behind the comparison of rates: each base, and its arms."""
    rates = None if study.sweep is None else study.sweep.rates
    rows = () if rates is None else rates.rows
    return [Rows(base=row.base, arms=tuple(dict.fromkeys((BASE_ARM, *row.arms)))) for row in rows]


def rates_in_words(study: Study, rates: pd.DataFrame) -> list[str]:
    """What the rule takes of the rates, base by base, and where the study has another one."""
    assert study.sweep is not None and study.sweep.rates is not None
    within = study.sweep.rates.within
    said = [
        f"The rule: of each base the largest rate is taken that moves no column by more than "
        f"{within:g} points from the base."
    ]
    for base in dict.fromkeys(rates["base"]):
        label, mine = study.bases[base].label, study.bases[base].continued.optimizer.lr
        where = f"bases.{base}.continued.optimizer.lr"
        taken = rates[(rates["base"] == base) & rates["taken"]]
        if taken.empty:
            said.append(
                f"{label}: none is taken, every rate moves a column by more than {within:g} or is "
                f"not finished: lower {where}, {mine:g} now."
            )
            continue
        [row] = taken.itertuples()
        found = f"{label}: {row.lr:g} is taken ({signed(row.apart)})"
        if row.lr == mine:
            said.append(f"{found}, the study's own.")
        else:
            said.append(
                f"{found}, the study has {mine:g}: write {row.lr:g} to {where} before weights are "
                "compared; they are compared at the study's rate."
            )
    return said


def weights_in_words(study: Study, candidates: pd.DataFrame) -> list[str]:
    """The candidate of each base and criteria with the best gain."""
    said = ["The rule: of each base and criterion the candidate with the best gain is taken."]
    for base in dict.fromkeys(candidates["base"]):
        best: dict[tuple[str, ...], str] = {}
        for row in candidates[candidates["base"] == base].dropna(subset="gain").itertuples():
            criteria = study.criterion_names(str(row.arm))
            if criteria:  # the best comes first
                best.setdefault(criteria, f"{row.arm} ({signed(row.gain)})")
        if best:
            said.append(f"{study.bases[base].label}: {', '.join(best.values())}.")
    return said


def _results(study: Study, rows: Iterable[Rows]) -> list:
    assert study.sweep is not None
    runs = study.runs(rows, study.sweep.seeds)
    columns = study.sweep.columns or ("embeddings",)
    return [study.result_path(run, column) for run in runs for column in columns]


def _reads_rates(study: Study) -> Inputs:
    return {"results": _results(study, rate_rows(study))}


def _reads(study: Study) -> Inputs:
    assert study.sweep is not None
    return {"results": _results(study, [*rate_rows(study), *study.sweep.rows])}


def _text(frame: pd.DataFrame, said: Sequence[str]) -> str:
    lines = [frame.to_markdown(index=False, floatfmt=_formats(frame)), *said]
    return "\n\n".join(lines) + "\n"


def _formats(frame: pd.DataFrame) -> tuple[str, ...]:
    return tuple("g" if name == "lr" else ".2f" for name in frame.columns)


def _make_rates(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    rates = compare_rates(study, collect(inputs["results"]))
    text = rates.assign(lr=rates["lr"].map("{:g}".format))
    text = text.to_csv(index=False, float_format="%.3f", lineterminator="\n")
    outputs["sweep_rates.csv"].write_text(text, encoding="utf-8")
    text = _text(rates, rates_in_words(study, rates))
    outputs["sweep_rates.md"].write_text(text, encoding="utf-8")


def _make(study: Study, inputs: Inputs, outputs: Outputs) -> None:
    assert study.sweep is not None
    if study.sweep.closes is not None:
        found = actions(study, map(read_result, inputs["results"]))
        candidates = compare_closed(study, found)
        text = _text(candidates, closed_in_words(study, candidates))
    else:
        results = collect(inputs["results"])
        candidates = compare_candidates(study, results)
        text = _text(candidates, weights_in_words(study, candidates))
        if not _lacks_rates(study):
            rates = compare_rates(study, results)
            text = f"{_text(rates, rates_in_words(study, rates))}\n{text}"
    outputs["sweep.csv"].write_text(
        candidates.to_csv(index=False, float_format="%.3f"), encoding="utf-8"
    )
    outputs["sweep.md"].write_text(text, encoding="utf-8")


def _lacks_rates(study: Study) -> str:
    if study.sweep is None or study.sweep.rates is not None:
        return missing_key(study, "sweep")
    return f"study {study.name} has no rates in its sweep: add the key sweep.rates to its file"


SWEEP_RATES = Part(
    name="sweep_rates",
    reads=_reads_rates,
    writes=lambda study: {"sweep_rates.csv": "", "sweep_rates.md": ""},
    make=_make_rates,
    lacking=_lacks_rates,
    in_all=False,
    in_full_report=False,
)

SWEEP = Part(
    name="sweep",
    reads=_reads,
    writes=lambda study: {"sweep.csv": "", "sweep.md": ""},
    make=_make,
    lacking=lambda study: missing_key(study, "sweep"),
    in_all=False,
    in_full_report=False,
)
