"""What each arm did to the embeddings and the features: scores, differences, distance closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2mc.reporting.results import run_of, score_of
from e2mc.reporting.statistics import Difference, Seeds, paired_difference, reference_arm, spread
from e2mc.study import BASE_ARM, Study

# metric of the results -> heading of the table, decimals
METRICS = {
    "marginal_entropy": ("entropy of z", 3),
    "covariance": ("covariance of z", 3),
    "correlation_rms": ("correlation of z", 3),
    "embedding_rank": ("rank of z", 1),
    "feature_rank": ("rank of features", 1),
    "feature_norm": ("norm of features", 2),
}


@dataclass(frozen=True)
class Action:
    """What one arm of a base did.

    Attributes:
        values: metric -> score of each run.
        differences: metric -> to the reference, in pairs; None where there is none.
        closed: criterion -> share of the distance between the reference and ideal embeddings, in
            the criterion's own term, that the arm has closed, of each pair; of its criteria.
    """

    base: str
    arm: str
    reference: str
    values: dict[str, dict[Seeds, float]]
    differences: dict[str, Difference | None]
    closed: dict[str, dict[Seeds, float]]

    @property
    def shares(self) -> dict[str, float]:
        """Criterion -> mean share of its distance that is closed."""
        return {name: float(np.mean(list(s.values()))) for name, s in self.closed.items() if s}

    def flat(self) -> Iterable[dict[str, Any]]:
        """One row per metric, for the CSV."""
        for metric, values in self.values.items():
            mean, std = spread(values.values())
            found = self.differences[metric]
            yield {
                "base": self.base,
                "arm": self.arm,
                "metric": metric,
                "n": len(values),
                "mean": mean,
                "std": std,
                "reference": self.reference,
                "difference": found and found.mean,
                "ci_low": found and found.low,
                "ci_high": found and found.high,
            }
        for criterion, shares in self.closed.items():
            mean, std = spread(shares.values())
            row = {"base": self.base, "arm": self.arm, "metric": f"closed of {criterion}"}
            yield row | {"n": len(shares), "mean": mean, "std": std, "reference": self.reference}


def actions(study: Study, records: Iterable[dict[str, Any]]) -> list[Action]:
    """What each arm did, by base and arm in the order of the records.

    Args:
        study: says what an arm is compared with.
        records: result files of the paradigm "embeddings".
    """
    runs: dict[tuple[str, str], dict[Seeds, dict[str, Any]]] = {}
    for record in records:
        run = run_of(record)
        seeds = run.base_seed, run.continuation_seed
        runs.setdefault((run.base, run.arm), {})[seeds] = record
    return [_action(study, base, arm, runs) for base, arm in runs]


def _action(
    study: Study,
    base: str,
    arm: str,
    runs: Mapping[tuple[str, str], Mapping[Seeds, dict[str, Any]]],
) -> Action:
    reference = reference_arm(study, arm)
    found, before = runs[base, arm], runs.get((base, reference), {})
    values, differences = {}, {}
    for metric in METRICS:
        values[metric] = {seeds: score_of(r, metric) for seeds, r in found.items()}
        others = {seeds: score_of(r, metric) for seeds, r in before.items()}
        differences[metric] = paired_difference(values[metric], others)
    criteria = () if arm == BASE_ARM else study.criterion_names(arm)
    closed = {name: _closed(name, found, before) for name in criteria}
    return Action(base, arm, reference, values, differences, closed)


def _closed(
    criterion: str,
    found: Mapping[Seeds, dict[str, Any]],
    before: Mapping[Seeds, dict[str, Any]],
) -> dict[Seeds, float]:
    """Of each pair, the share of the distance to ideal embeddings that is closed."""
    shares = {}
    for seeds, record in found.items():
        other = before.get(seeds, before.get((seeds[0], None)))
        if other is not None:
            now, then = (r["details"]["terms"][criterion] for r in (record, other))
            shares[seeds] = (now["value"] - then["value"]) / (then["ideal"] - then["value"])
    return shares
