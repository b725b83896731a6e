"""What heads of other learning rates reach, on other kinds of features: is a gain the probe's rate?

A change of the features' scale or conditioning alone moves what a head learns at a fixed rate.
Heads at several rates, on features as they are, standardised and whitened, tell such a gain from
others. They learn beside the heads of the scores, and nothing is chosen from them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.probes import HeldOut, Learner

KINDS = ("raw", "standardised", "whitened")

# Half decades: published rates of one protocol for several bases lie up to a factor of 15 apart
# (SwAV's 0.3, VICReg's 0.02), a factor of 30 to either side covers them from every one of them, and
# the accuracy of a head changes little within half a decade.
FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def fixed_rate(protocol: LinearProtocol) -> float:
    """The only rate of a protocol; that of the published one where it chooses among several."""
    rates = protocol.learning_rates
    return rates[0] if len(rates) == 1 else LinearProtocol().learning_rates[0]


def at_several_rates(protocol: LinearProtocol) -> LinearProtocol:
    """The protocol itself where it has several rates, else with seven around its only one."""
    rates = protocol.learning_rates
    if len(rates) > 1:
        return protocol
    around = tuple(float(f"{rates[0] * factor:.12g}") for factor in FACTORS)
    return replace(protocol, learning_rates=around)


def accuracy_by_rate(learner: Learner, held_out: HeldOut) -> dict[str, Any]:
    """Top-1 percentages of all heads after the last epoch.

    Args:
        learner: at several rates.
        held_out: on what they are scored.

    Returns:
        "test_top1", and "validation_top1" where there are such images: probe seed -> one number per
        rate, None for a head that has diverged.
    """
    splits = {"test": held_out.test}
    if held_out.validation is not None:
        splits["validation"] = held_out.validation
    finite = learner.heads.evaluation_weight().isfinite().all(dim=1).all(dim=1)
    found = {}
    for split, (features, labels) in splits.items():
        values = learner.heads.accuracy(features, labels)
        found[f"{split}_top1"] = {
            str(seed): [
                round(value, 4) if fine else None
                for value, fine in zip(row.tolist(), whole.tolist(), strict=True)
            ]
            for seed, row, whole in zip(learner.subsets, values, finite, strict=True)
        }
    return found
