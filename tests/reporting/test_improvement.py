"""What is said of a model that was continued with and without a criterion."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from e2mc.reporting.improvement import improvement
from e2mc.reporting.results import COLUMNS


def frame(scores):
    """Results of base swav_long: (arm, paradigm, metric) -> values by continuation seed."""
    rows = []
    for (arm, paradigm, metric), values in scores.items():
        for seed, value in enumerate(values):
            row = dict.fromkeys(COLUMNS) | {
                **{"study": "tiny", "base": "swav_long", "arm": arm, "base_seed": 0},
                "continuation_seed": None if arm == "base" else seed,
                **{"paradigm": paradigm, "metric": metric, "features": "raw", "split": "test"},
                **{"selection": "last", "probe_seed": 0, "evaluation_seed": 0, "value": value},
            }
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"continuation_seed": "Int64"})


def entropies(continued, e2mc):
    of = ("embeddings", "marginal_entropy")
    return {("base", *of): [-0.3], ("continued", *of): continued, ("e2mc", *of): e2mc}


@pytest.mark.parametrize(
    ("e2mc", "sentence"),
    [
        ([-0.11, -0.09, -0.1], r"The criterion acts: \+0\.100 \[\+0\.\d+, \+0\.\d+\] against cont"),
        ([-0.31, -0.29, -0.3], r"The criterion has not raised it, it fell: -0\.100 \["),
        ([-0.1, -0.3, -0.21], r"did nothing that can be told from noise: .* raise its weights"),
    ],
)
def test_whether_the_criterion_acts(study, e2mc, sentence):
    found = improvement(study, "swav_long", "e2mc", frame(entropies([-0.21, -0.19, -0.2], e2mc)))
    assert re.search(sentence, found.verdict), found.verdict
    assert "Entropy of z in nats (0 is the highest): -0.200 continued, " in found.verdict
    assert "; -0.300 as it was, standardised by its own batches." in found.verdict


def test_without_labels(study):
    of = ("embeddings", "embedding_rank")
    ranks = {("continued", *of): [10.0, 10.1, 10.2], ("e2mc", *of): [15.0, 15.2, 15.4]}
    scores = entropies([-0.2, -0.2, -0.2], [-0.1, -0.1, -0.1]) | ranks
    found = improvement(study, "swav_long", "e2mc", frame(scores))
    assert found.verdict.startswith("Without labels nothing can be said about accuracy.")
    assert "E2MC − continued, beyond noise: effective rank of z +5.10 [" in found.verdict
    assert "| as it was | -0.300 | – |" in found.table()


def test_with_labels_ranks_are_in_the_table_alone(study):
    top1 = ("linear_1", "top1")
    scores = {("base", *top1): [50.0], ("continued", *top1): [50.1, 50.0, 49.9]}
    scores |= {("e2mc", *top1): [52.0, 52.1, 52.2]} | entropies([-0.2] * 3, [-0.1, -0.11, -0.1])
    found = improvement(study, "swav_long", "e2mc", frame(scores))
    assert found.verdict.startswith("E2MC improves the model, on linear 1 %.")
    assert "beyond noise: effective" not in found.verdict and "The criterion acts" in found.verdict
