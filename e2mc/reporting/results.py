"""Result files to one tidy frame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from e2mc.errors import InputError

if TYPE_CHECKING:
    from e2mc.study import Study

RUN = ("study", "base", "arm", "base_seed", "continuation_seed", "paradigm")
SCORE = ("metric", "features", "selection", "split", "probe_seed", "value")
ORIGIN = ("spec_hash", "code", "device", "wall_seconds", "peak_memory_mb")
COLUMNS = RUN + SCORE + ORIGIN


class ResultError(InputError):
    """A result file that cannot be used: which one, and why."""


def collect(paths: Iterable[Path]) -> pd.DataFrame:
    """One row per score of every result file.

    Args:
        paths: result files, in any order.

    Returns:
        Columns ``COLUMNS``, sorted by all that names a score. ``continuation_seed`` is an Int64
        column: a base has none.

    Raises:
        ResultError: when a file is missing, is not a result, or repeats a score.
    """
    rows = [row for path in sorted(set(paths)) for row in _scores(Path(path))]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "path"])
    frame = frame.astype({"continuation_seed": "Int64"})
    names = [name for name in RUN + SCORE if name != "value"]
    repeated = frame[frame.duplicated(names, keep=False)]
    if len(repeated):
        first = repeated.iloc[0]
        raise ResultError(
            f"{first['path']}: the score {first['metric']} on {first['features']} features "
            f"(probe seed {first['probe_seed']}, {first['split']}) of this run is there more than "
            f"once, also in {repeated.iloc[1]['path']}: remove one of them"
        )
    return frame[list(COLUMNS)].sort_values(names, ignore_index=True)


def read_result(path: Path) -> dict[str, Any]:
    """The content of one result file; ResultError in one sentence when it is no such file."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}): run its target") from error
    except ValueError as error:
        raise ResultError(f"{path}: is not JSON ({error}): delete it and run again") from error
    wanted = {*RUN, *ORIGIN, "scores"}
    missing = sorted(wanted - set(record)) if isinstance(record, dict) else sorted(wanted)
    if missing:
        raise ResultError(
            f"{path}: is no result, {', '.join(missing)} is missing: delete it and run again"
        )
    return record


def records_by_arm(
    study: Study, records: Iterable[dict[str, Any]], paradigm: str
) -> dict[str, list[dict[str, Any]]]:
    """Results of a paradigm for the base and arms of ``study.separability``, in that order.

    Raises:
        ValueError: when there are none.
    """
    shown = study.separability
    found = [r for r in records if (r["base"], r["paradigm"]) == (shown.base, paradigm)]
    by_arm = {arm: [record for record in found if record["arm"] == arm] for arm in shown.arms}
    by_arm = {arm: of_arm for arm, of_arm in by_arm.items() if of_arm}
    if not by_arm:
        raise InputError(
            f"no {paradigm} result of {shown.base} is of the arms {', '.join(shown.arms)}"
        )
    return by_arm


def score_of(record: dict[str, Any], metric: str) -> float:
    """The first score of a result by this metric."""
    return next(score["value"] for score in record["scores"] if score["metric"] == metric)


def _scores(path: Path) -> Iterable[dict[str, Any]]:
    record = read_result(path)
    run = {name: record[name] for name in RUN + ORIGIN}
    run["code"] = " ".join(f"{part}={version}" for part, version in sorted(run["code"].items()))
    for score in record["scores"]:
        missing = sorted(set(SCORE) - set(score))
        if missing:
            raise ResultError(f"{path}: a score lacks {', '.join(missing)}: run it again")
        if not isinstance(score["value"], int | float) or not math.isfinite(score["value"]):
            raise ResultError(
                f"{path}: the score {score['metric']} must be a finite number, found "
                f"{score['value']!r}: run it again"
            )
        yield {**run, **{name: score[name] for name in SCORE}, "path": str(path)}
