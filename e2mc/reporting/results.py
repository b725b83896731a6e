"""Every score of many result files in one tidy table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

KEYS = ["base", "arm", "base_seed", "continuation_seed", "paradigm"]
SCORE_KEYS = ["metric", "features", "selection", "split", "probe_seed"]


class ResultError(ValueError):
    """A result file that cannot be used, with its name and the reason."""


def collect(paths: Iterable[Path]) -> pd.DataFrame:
    """One row per score.

    Args:
        paths: result files, see the README of results/.

    Returns:
        Columns study, base, arm, base_seed, continuation_seed (empty for the base itself),
        paradigm, metric, features, selection, split, probe_seed, value, code_hash, device,
        wall_seconds; sorted, so that the same files give the same table in any order.

    Raises:
        ResultError: when a file is missing, not JSON, or lacks a key.
    """
    rows = [row for path in sorted(set(paths)) for row in _rows(Path(path))]
    if not rows:
        raise ResultError("there are no results to collect: run an evaluation first")
    table = pd.DataFrame(rows).astype({"continuation_seed": "Int64"})
    return table.sort_values(KEYS + SCORE_KEYS, ignore_index=True)


def _rows(path: Path) -> list[dict]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        shared = {key: result[key] for key in ["study", *KEYS]}
        shared |= {key: result[key] for key in ("code_hash", "device", "wall_seconds")}
        return [
            shared | {key: score[key] for key in [*SCORE_KEYS, "value"]}
            for score in result["scores"]
        ]
    except OSError as error:
        raise ResultError(f"cannot read the result {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ResultError(f"the result {path} is not JSON: delete it, run again") from error
    except KeyError as error:
        raise ResultError(f"the result {path} has no {error}: delete it, run again") from error
