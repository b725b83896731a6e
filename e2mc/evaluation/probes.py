"""Linear classifiers on frozen features: the linear protocol of SwAV and VICReg.

Several sets of heads (label fractions, kinds of features) can learn from one pass over the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from e2mc.errors import InputError
from e2mc.evaluation.epochs import EpochState, interruption_point
from e2mc.evaluation.features import FeatureStream
from e2mc.evaluation.heads import LinearProtocol, StackedHeads, with_ones
from e2mc.evaluation.metrics import score, topk_accuracy
from e2mc.evaluation.seeds import FIRST, EvaluationSeed
from e2mc.progress import Progress


@dataclass(frozen=True)
class HeldOut:
    """Features that heads are scored on, and how training features become comparable to them.

    Attributes:
        test: features (T, D) and labels (T,).
        validation: features (V, D) and labels (V,), on which the learning rate and the best epoch
            are chosen. None: the best epoch is chosen on the test images, as in the papers, and
            there is one learning rate.
        transform: of the training features, (B, D) -> (B, D).
    """

    test: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor] | None
    transform: Callable[[Tensor], Tensor] | None = None

    @property
    def chooses(self) -> tuple[Tensor, Tensor]:
        """Where choices are made."""
        return self.test if self.validation is None else self.validation

    @property
    def chosen_on(self) -> str:
        """The split of ``chooses``."""
        return "test" if self.validation is None else "validation"


class Probe:
    """Heads for label subsets of one size, with the best epoch of each head so far.

    Args:
        dim: width D of the features.
        labels: int64 (N,), on the device of the features.
        subsets: probe seed -> indices with labels, all of one length; the seed also initialises.
        classes: number K of classes.
        protocol: how to train.
        features: how the scores call the features, "raw" or "whitened".
        positions: see ``StackedHeads``.
        seed: with the probe seeds it decides the initial weights.

    Raises:
        ValueError: when the subsets differ in length or are empty.
    """

    def __init__(
        self,
        dim: int,
        labels: Tensor,
        subsets: Mapping[int, Tensor],
        classes: int,
        protocol: LinearProtocol,
        features: str = "raw",
        positions: int = 1,
        seed: EvaluationSeed = FIRST,
    ) -> None:
        self.subsets, self.protocol, self.features = subsets, protocol, features
        self.indices = torch.cat(list(subsets.values())).unique()
        seeds = [seed.of(of_subset) for of_subset in subsets]
        self.heads = StackedHeads(
            dim, labels, list(subsets.values()), seeds, classes, protocol, positions
        )
        weight = self.heads.weight
        self._accuracy = torch.full(weight.shape[::3], -1.0, device=labels.device)
        self._best, self._best_weight = self._accuracy.clone(), weight.clone()
        self._best_epoch = torch.zeros_like(self._best, dtype=torch.long)

    @property
    def done(self) -> bool:
        return self.heads.epoch >= self.protocol.epochs

    def end_epoch(self, held_out: HeldOut) -> None:
        """Finishes the heads' epoch; validates them where the protocol says so."""
        self.heads.end_epoch()
        if self.heads.epoch % self.protocol.validate_every and not self.done:
            return
        self._accuracy = self.heads.accuracy(*held_out.chooses)
        improved = self._accuracy > self._best
        self._best = torch.where(improved, self._accuracy, self._best)
        self._best_epoch[improved] = self.heads.epoch
        weight = self.heads.evaluation_weight()
        torch.where(improved[:, None, None, :], weight, self._best_weight, out=self._best_weight)

    def scores(self, held_out: HeldOut) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """See ``linear_probe``; after the last epoch."""
        last = self.heads.evaluation_weight()
        rates = self.protocol.learning_rates
        if not last.isfinite().all():
            raise InputError(
                f"linear heads on {self.features} features diverged: use learning rates below "
                f"{rates[-1]:g}"
            )
        chosen = [middle_of_best(row) for row in self._accuracy]
        splits = [("test", held_out.test)]
        if held_out.validation is not None:
            splits.append(("validation", held_out.validation))
        scores = []
        for i, seed in enumerate(self.subsets):
            for selection, weight in (("last", last), ("best", self._best_weight)):
                for split, (x, y) in splits:
                    weights = weight[i, :, :, chosen[i]]
                    parts = [with_ones(part.to(weight.device)) @ weights for part in x.split(8192)]
                    logits, y = torch.cat(parts), y.to(weight.device)
                    for k in (1, 5) if self.heads.classes > 5 else (1,):
                        value = topk_accuracy(logits, y, k)
                        where: dict[str, Any] = {"split": split, "selection": selection}
                        scores.append(
                            score(
                                f"top{k}", value, features=self.features, probe_seed=seed, **where
                            )
                        )
        edges = (0, len(rates) - 1)
        of_seed = list(zip(self.subsets, chosen, strict=True))
        return scores, {
            "labels": len(next(iter(self.subsets.values()))),
            "learning_rate": {str(seed): rates[c] for seed, c in of_seed},
            "at_edge_of_grid": [seed for seed, c in of_seed if len(rates) > 1 and c in edges],
            "best_epoch": {
                str(seed): int(self._best_epoch[i, c]) for i, (seed, c) in enumerate(of_seed)
            },
            "best_epoch_chosen_on": held_out.chosen_on,
            f"{held_out.chosen_on}_top1_by_rate": [
                round(value, 3) for value in self._accuracy.mean(dim=0).tolist()
            ],
        }

    def state_dict(self) -> dict[str, Any]:
        """Between two epochs."""
        return {
            "heads": self.heads.state_dict(),
            "accuracy": self._accuracy,
            "best": self._best,
            "best_epoch": self._best_epoch,
            "best_weight": self._best_weight,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heads.load_state_dict(state["heads"])
        device = self._best.device
        self._accuracy, self._best = state["accuracy"].to(device), state["best"].to(device)
        self._best_epoch = state["best_epoch"].to(device)
        self._best_weight.copy_(state["best_weight"])


def linear_probe(
    stream: FeatureStream,
    labels: Tensor,
    subsets: Mapping[int, Tensor],
    held_out: HeldOut,
    *,
    classes: int,
    protocol: LinearProtocol,
    features: str = "raw",
    seed: EvaluationSeed = FIRST,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains linear heads on label subsets of one size and scores them.

    For each subset the learning rate is the one with the highest validation accuracy after the last
    epoch (the middle one of equals). "best" is that head after its best epoch on validation, or on
    the test images where none are held out.

    Args:
        stream: training features (N, D).
        labels: int64 (N,).
        subsets: probe seed -> indices with labels, all of one length; the seed also initialises.
        held_out: what the heads are scored on.
        classes: number K of classes.
        protocol: how to train.
        features: how the scores call the features, "raw" or "whitened".
        seed: see ``Probe``.

    Returns:
        Scores (top1, and top5 with more than 5 classes, in percent; selections last and best;
        splits test and validation; one probe seed per subset), and details: the chosen rates, their
        seeds where the rate is at an edge of a grid of more than one, best epochs and the split
        they are chosen on, accuracy per rate on that split.

    Raises:
        ValueError: when the weights do not stay finite, or when several learning rates have no
            validation images to be chosen on.

    Source: eval_linear.py of SwAV (Caron et al. 2020); heads side by side as in DINOv2.
    """
    probe = Probe(stream.dim, labels, subsets, classes, protocol, features, stream.positions, seed)
    train_probes(stream, [probe], {features: held_out})
    return probe.scores(held_out)


def train_probes(
    stream: FeatureStream,
    probes: Sequence[Probe],
    held_out: Mapping[str, HeldOut],
    *,
    state: EpochState | None = None,
    what: str = "linear probes",
) -> None:
    """Trains every probe from the same passes over the images.

    One pass per epoch goes over the images of all probes; each head steps on batches of its own
    images as their features come by. So the features of an image are computed once per epoch, for
    however many label fractions, learning rates, seeds and kinds of features.

    Args:
        stream: raw training features.
        probes: what is trained; those with fewer epochs stop earlier.
        held_out: for each kind of features, what the probes are scored on.
        state: where the state is kept after every epoch; a later call goes on from it.
        what: name in the progress display, which is shown where a state is kept.

    Raises:
        Interrupted: when a stop was asked for; what was done since the last state is lost.
        ValueError: when several learning rates have no validation images to be chosen on.
    """
    for probe in probes:
        rates = probe.protocol.learning_rates
        if len(rates) > 1 and held_out[probe.features].validation is None:
            raise InputError(
                f"{len(rates)} learning rates would be chosen on the test images: hold validation "
                "images out, or give one rate"
            )
    done = 0
    if state is not None and (found := state.load()) is not None:
        done = found["epoch"]
        for probe, part in zip(probes, found["probes"], strict=True):
            probe.load_state_dict(part)
    epochs = max(probe.protocol.epochs for probe in probes)
    progress = Progress(what, epochs, done=done, unit="epochs") if state is not None else None
    for epoch in range(done, epochs):
        learning = [probe for probe in probes if not probe.done]
        kinds = {probe.features: held_out[probe.features].transform for probe in learning}
        wanted = torch.cat([probe.indices for probe in learning]).unique()
        for raw, indices in stream.epoch(epoch, wanted):
            interruption_point(what)
            features = {
                kind: raw if transform is None else transform(raw)
                for kind, transform in kinds.items()
            }
            for probe in learning:
                probe.heads.consume(features[probe.features], indices)
        for probe in learning:
            probe.end_epoch(held_out[probe.features])
        if state is not None and progress is not None:
            parts = [probe.state_dict() for probe in probes]
            state.save({"epoch": epoch + 1, "probes": parts})
            progress.step()


def middle_of_best(values: Tensor) -> int:
    """Position of the largest value (1-d); of several equal ones, the middle."""
    ties = (values == values.max()).nonzero().flatten()
    return int(ties[len(ties) // 2])
