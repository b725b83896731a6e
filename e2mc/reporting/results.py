"""Result files to one tidy frame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from e2mc.errors import InputError
from e2mc.state import fingerprint
from e2mc.study import Rows, Run, Study

RUN = ("study", "base", "arm", "base_seed", "continuation_seed", "paradigm")
SCORE = ("metric", "features", "selection", "split", "probe_seed", "evaluation_seed", "value")
ORIGIN = ("code", "device", "wall_seconds", "peak_memory_mb")
COLUMNS = RUN + SCORE + ORIGIN

ByArm = dict[str, list[dict[str, Any]]]


class ResultError(InputError):
    """A result file that cannot be used: which one, and why."""


def measurement_results(study: Study, *paradigms: str) -> list[Path]:
    """Results of these paradigms for the arms whose features the study compares.

    Those that the study leaves out, for want of images, are not among them.
    """
    names = [name for name in paradigms if name not in study.left_out]
    return [study.result_path(run, name) for run in study.separability_runs() for name in names]


def collect(paths: Iterable[Path]) -> pd.DataFrame:
    """One row per score of every result file.

    Args:
        paths: result files, in any order.

    Returns:
        Columns ``COLUMNS``, sorted by all that names a score. ``continuation_seed`` is an Int64
        column: a base has none. ``code`` is the fingerprint of the versions of the code; of each,
        ``attrs["code"]`` has file of the package -> version.

    Raises:
        ResultError: when a file is missing, is not a result, or repeats a score.
    """
    rows: list[dict[str, Any]] = []
    codes: dict[str, dict[str, str]] = {}
    for path in sorted(map(Path, set(paths))):
        record = read_result(path)
        code = fingerprint(record["code"])
        codes[code] = record["code"]
        rows += _scores(path, record | {"code": code})
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "path"])
    frame = frame.astype({"continuation_seed": "Int64"})
    names = [name for name in RUN + SCORE if name != "value"]
    repeated = frame[frame.duplicated(names, keep=False)]
    if len(repeated):
        first = repeated.iloc[0]
        raise ResultError(
            f"{first['path']}: the score {first['metric']} on {first['features']} features "
            f"(probe seed {first['probe_seed']}, evaluation seed {first['evaluation_seed']}, "
            f"{first['split']}) of this run is there more than "
            f"once, also in {repeated.iloc[1]['path']}: remove one of them"
        )
    frame = frame[list(COLUMNS)].sort_values(names, ignore_index=True)
    frame.attrs["code"] = codes
    return frame


def read_result(path: Path) -> dict[str, Any]:
    """The content of one result file; ResultError in one sentence when it is no such file."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}): run its target") from error
    except ValueError as error:
        raise ResultError(f"{path}: is not JSON ({error}): delete it and run again") from error
    wanted = {*RUN, *ORIGIN, "decided_by", "scores"}
    content = record if isinstance(record, dict) else {}
    missing = wanted - set(content)
    missing |= {key for key in ("code", "decided_by") if not isinstance(content.get(key), dict)}
    if missing:
        raise ResultError(
            f"{path}: is no result, {', '.join(sorted(missing))} is missing: delete it and run "
            "again"
        )
    return content


def run_of(record: Mapping[str, Any]) -> Run:
    """The run that a result is of."""
    return Run(record["base"], record["arm"], record["base_seed"], record["continuation_seed"])


def select(
    study: Study,
    results: pd.DataFrame,
    rows: Sequence[Rows],
    columns: Sequence[str],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """The results of some rows and columns of a study, with these continuation seeds."""
    wanted = {(row.base, arm) for row in rows for arm in row.arms}
    pairs = pd.MultiIndex.from_frame(results[["base", "arm"]])
    seed = results["continuation_seed"]
    return results[
        (results["study"] == study.folder)
        & pairs.isin(wanted)
        & results["paradigm"].isin(columns)
        & results["base_seed"].isin(study.seeds.base)
        & (seed.isna() | seed.isin(seeds))
    ]


def records_by_arm(study: Study, records: Iterable[dict[str, Any]], paradigm: str) -> ByArm:
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


def _scores(path: Path, record: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    run = {name: record[name] for name in RUN + ORIGIN}
    for given in record["scores"]:
        score = {"evaluation_seed": 0} | given  # results from before there were such seeds
        missing = sorted(set(SCORE) - set(score))
        if missing:
            raise ResultError(f"{path}: a score lacks {', '.join(missing)}: run it again")
        if not isinstance(score["value"], int | float) or not math.isfinite(score["value"]):
            raise ResultError(
                f"{path}: the score {score['metric']} must be a finite number, found "
                f"{score['value']!r}: run it again"
            )
        yield {**run, **{name: score[name] for name in SCORE}, "path": str(path)}
