"""Linear classifiers on frozen features, many at once.

Softmax regression by SGD as in the linear protocol of SwAV and VICReg. All learning rates and all
label subsets of one size are trained together: their weights are one tensor, and one batched matrix
product serves every head. The gradient of the cross-entropy is softmax - onehot, so no graph is
built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.evaluation.features import FeatureStream
from e2mc.evaluation.metrics import score, topk_accuracy


@dataclass(frozen=True)
class LinearProtocol:
    """How linear heads are trained; the defaults are the published protocol's.

    SGD with momentum, not Nesterov; the weight decay holds for the bias too; the last, smaller
    batch of an epoch is used.

    Args:
        learning_rates: one head each, and the validation split chooses. Few labels need a wide
            grid: the number of steps is small, and the rate is then the regulariser.
        schedule: per epoch, "cosine" to 0 or "step", times ``gamma`` at each epoch of ``steps``.
        init_std: of the normal weights; biases begin at 0.
        validate_every: epochs between looks at the validation split, for the best epoch; the last
            epoch always counts.
    """

    epochs: int = 100
    batch_size: int = 256
    learning_rates: tuple[float, ...] = (0.3,)
    weight_decay: float = 1e-6
    momentum: float = 0.9
    schedule: Literal["cosine", "step"] = "cosine"
    steps: tuple[int, ...] = (24, 48, 72)
    gamma: float = 0.1
    init_std: float = 0.01
    validate_every: int = 1

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(
                f"learning_rates must hold one or more positive rates, found {self.learning_rates}"
            )
        if sorted(set(self.learning_rates)) != list(self.learning_rates):
            raise ValueError(f"learning_rates must rise, found {self.learning_rates}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), found {self.momentum}")
        for name in ("weight_decay", "init_std", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"schedule must be 'cosine' or 'step', found {self.schedule!r}")

    def factor(self, epoch: int) -> float:
        """What the learning rate is multiplied by in this epoch, counted from 0."""
        return schedule_factor(self.schedule, epoch, self.epochs, self.steps, self.gamma)


def schedule_factor(
    schedule: str, epoch: int, epochs: int, steps: Sequence[int], gamma: float
) -> float:
    """Factor of the learning rate, constant within an epoch: cosine to 0, or ``gamma`` per step."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return gamma ** sum(epoch >= step for step in steps)


class StackedHeads:
    """Softmax regressions for S label subsets x L learning rates, trained side by side.

    Each head sees what it would see alone: batches of its own subset in the stream's order.

    Args:
        dim: width D of the features.
        labels: int64 (N,), of all training images.
        subsets: S index tensors of one length n.
        seeds: S seeds of the initial weights, which all learning rates of a subset share.
        classes: number K of classes.
        protocol: how to train.

    Attributes:
        weight: float32 (S, D + 1, K, L); the last row is the bias.

    Raises:
        ValueError: when the subsets differ in length or are empty.
    """

    def __init__(
        self,
        dim: int,
        labels: Tensor,
        subsets: Sequence[Tensor],
        seeds: Sequence[int],
        classes: int,
        protocol: LinearProtocol,
    ) -> None:
        sizes = {len(subset) for subset in subsets}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                "label subsets that are trained together need one length of at least 1, found "
                f"{sorted(sizes)}"
            )
        self.protocol, self.classes, self.labels = protocol, classes, labels
        rates = labels.new_tensor(protocol.learning_rates, dtype=torch.float32)
        self._rates = rates.view(1, 1, 1, -1)
        self.weight = labels.new_zeros(
            (len(subsets), dim + 1, classes, len(rates)), dtype=torch.float32
        )
        for head, seed in zip(self.weight, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            weight = torch.randn(dim, classes, generator=generator) * protocol.init_std
            head[:-1] = weight.to(head).unsqueeze(-1)
        self._momentum = torch.zeros_like(self.weight)
        self._members = [
            torch.zeros(len(labels), dtype=torch.bool, device=labels.device).index_fill_(
                0, subset, True
            )
            for subset in subsets
        ]
        self._waiting = [(self.weight.new_empty(0, dim + 1), labels[:0]) for _ in subsets]
        self.epoch = 0

    def consume(self, features: Tensor, indices: Tensor) -> None:
        """Takes a piece of the stream, and a step for every full batch that it completes."""
        features = with_ones(features)
        for i, member in enumerate(self._members):
            rows = member[indices].nonzero().flatten()
            x, y = self._waiting[i]
            self._waiting[i] = (
                torch.cat((x, features[rows])),
                torch.cat((y, self.labels[indices[rows]])),
            )
        size = self.protocol.batch_size
        ready = min(len(y) for _, y in self._waiting) // size * size
        for start in range(0, ready, size):
            self._step(slice(start, start + size))
        self._waiting = [(x[ready:], y[ready:]) for x, y in self._waiting]

    def end_epoch(self) -> None:
        """A step on what is left, and on to the next epoch's learning rate."""
        if len(self._waiting[0][1]):
            self._step(slice(None))
            self._waiting = [(x[:0], y[:0]) for x, y in self._waiting]
        self.epoch += 1

    def _step(self, batch: slice) -> None:
        x = torch.stack([x[batch] for x, _ in self._waiting])
        y = torch.stack([y[batch] for _, y in self._waiting])
        error = self._logits(x).softmax(dim=2)
        error -= F.one_hot(y, self.classes).to(error).unsqueeze(-1)
        # buffer <- momentum * buffer + (gradient of the mean loss + weight decay * weight)
        self._momentum.flatten(2).baddbmm_(
            x.mT, error.flatten(2), beta=self.protocol.momentum, alpha=1 / x.shape[1]
        )
        self._momentum.add_(self.weight, alpha=self.protocol.weight_decay)
        factor = self.protocol.factor(self.epoch)
        self.weight.addcmul_(self._momentum, self._rates, value=-factor)

    def _logits(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight.flatten(2)).unflatten(2, self.weight.shape[2:])

    def accuracy(self, features: Tensor, labels: Tensor) -> Tensor:
        """Top-1 percentage of every head on the same images: (N, D), (N,) -> (S, L)."""
        hits = 0
        for x, y in zip(features.split(2048), labels.split(2048), strict=True):
            logits = self._logits(with_ones(x).expand(len(self.weight), -1, -1))
            hits = hits + (logits.argmax(dim=2) == y.view(1, -1, 1)).sum(dim=1)
        return 100 * hits / len(labels)


def with_ones(features: Tensor) -> Tensor:
    """(N, D) -> (N, D + 1): a last column of ones, whose weight is the bias."""
    return F.pad(features, (0, 1), value=1.0)


def linear_probe(
    stream: FeatureStream,
    labels: Tensor,
    subsets: Mapping[int, Tensor],
    *,
    validation: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: int,
    protocol: LinearProtocol,
    features: str = "raw",
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains linear heads on label subsets of one size and scores them.

    For each subset the learning rate is the one with the highest validation accuracy after the last
    epoch (the middle one of equals). "best" is that head after its best epoch on validation.

    Args:
        stream: training features (N, D).
        labels: int64 (N,).
        subsets: probe seed -> indices with labels, all of one length; the seed also initialises.
        validation: features (V, D) and labels (V,).
        test: features (T, D) and labels (T,).
        classes: number K of classes.
        protocol: how to train.
        features: how the scores call the features, "raw" or "whitened".

    Returns:
        Scores (top1, and top5 with more than 5 classes, in percent; selections last and best;
        splits test and validation; one probe seed per subset), and details: the chosen rates, their
        seeds where the rate is at an edge of a grid of more than one, best epochs, validation
        accuracy per rate.

    Raises:
        ValueError: when the weights do not stay finite.

    Source: eval_linear.py of SwAV (Caron et al. 2020); heads side by side as in DINOv2.
    """
    heads = StackedHeads(
        stream.dim, labels, list(subsets.values()), list(subsets), classes, protocol
    )
    best = torch.full(heads.weight.shape[::3], -1.0, device=labels.device)
    best_weight, best_epoch = heads.weight.clone(), torch.zeros_like(best, dtype=torch.long)
    for epoch in train_epochs(stream, heads, torch.cat(list(subsets.values())).unique()):
        if (epoch + 1) % protocol.validate_every and epoch + 1 < protocol.epochs:
            continue
        accuracy = heads.accuracy(*validation)
        improved = accuracy > best
        best = torch.where(improved, accuracy, best)
        best_epoch[improved] = epoch
        torch.where(improved[:, None, None, :], heads.weight, best_weight, out=best_weight)
    if not heads.weight.isfinite().all():
        raise ValueError(
            f"linear heads on {features} features diverged: use learning rates below "
            f"{protocol.learning_rates[-1]:g}"
        )
    chosen = [middle_of_best(row) for row in accuracy]
    scores = []
    for i, seed in enumerate(subsets):
        for selection, weight in (("last", heads.weight), ("best", best_weight)):
            for split, (x, y) in (("test", test), ("validation", validation)):
                logits = with_ones(x) @ weight[i, :, :, chosen[i]]
                for k in (1, 5) if classes > 5 else (1,):
                    value = topk_accuracy(logits, y, k)
                    where = {"split": split, "selection": selection}
                    scores.append(
                        score(f"top{k}", value, features=features, probe_seed=seed, **where)
                    )
    rates, edges = protocol.learning_rates, (0, len(protocol.learning_rates) - 1)
    at_edge = [s for s, c in zip(subsets, chosen, strict=True) if len(rates) > 1 and c in edges]
    return scores, {
        "labels": len(next(iter(subsets.values()))),
        "learning_rate": {str(s): rates[c] for s, c in zip(subsets, chosen, strict=True)},
        "at_edge_of_grid": at_edge,
        "best_epoch": {
            str(s): int(best_epoch[i, c]) + 1
            for i, (s, c) in enumerate(zip(subsets, chosen, strict=True))
        },
        "validation_top1_by_rate": [round(v, 3) for v in accuracy.mean(dim=0).tolist()],
    }


def train_epochs(stream: FeatureStream, heads: StackedHeads, indices: Tensor) -> Iterator[int]:
    """Trains the heads, epoch by epoch, and yields the number of each epoch when it is done."""
    for epoch in range(heads.protocol.epochs):
        for features, piece in stream.epoch(epoch, indices):
            heads.consume(features, piece)
        heads.end_epoch()
        yield epoch


def middle_of_best(values: Tensor) -> int:
    """Position of the largest value (1-d); of several equal ones, the middle."""
    ties = (values == values.max()).nonzero().flatten()
    return int(ties[len(ties) // 2])


__all__ = ["LinearProtocol", "StackedHeads", "linear_probe", "schedule_factor"]
