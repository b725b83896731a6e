"""The seed of an evaluation: what it draws beyond the labels that may be used."""

from __future__ import annotations

from dataclasses import dataclass

APART = 1_000_003  # between the draws of two evaluation seeds; label seeds are smaller


@dataclass(frozen=True)
class EvaluationSeed:
    """Initial weights, order of the images and random views of what is learnt from labels.

    Which images have labels does not depend on it.

    Args:
        number: 0 draws what is drawn where nobody speaks of evaluation seeds.
        same_order: the images come in the order of seed 0 all the same. Quirk of the official
            evaluations, whose DistributedSampler keeps its own seed.
    """

    number: int = 0
    same_order: bool = False

    def of(self, label_seed: int) -> int:
        """Seed of the weights and views of what is learnt from the labels of ``label_seed``."""
        return label_seed + APART * self.number

    def order_of(self, label_seed: int) -> int:
        """Seed of the order in which it sees the images."""
        return label_seed if self.same_order else self.of(label_seed)


FIRST = EvaluationSeed()
