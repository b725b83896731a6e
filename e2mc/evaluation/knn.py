"""Weighted k-nearest-neighbour classification of frozen features: nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.errors import InputError
from e2mc.evaluation.metrics import score, topk_accuracy
from e2mc.evaluation.paradigm import Counts, Found, Labelled, Work
from e2mc.evaluation.subject import Subject

BANK_ROWS = 2**17  # training features on the device at once: 1 GB at 2,048 dimensions
SIMILARITIES = 2**24  # that are looked at together: 64 MB
IN_CACHE = 2**22  # the same on a CPU: 16 MB, which stay in its cache


@dataclass(frozen=True)
class KNNProtocol:
    """How neighbours vote.

    Args:
        k: numbers of neighbours, each scored from the same search; the first one is the headline.
        temperature: > 0; a neighbour of cosine similarity s votes with the weight exp(s / T).
    """

    k: tuple[int, ...] = (20, 10, 100, 200)
    temperature: float = 0.07

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1 or len(set(self.k)) < len(self.k):
            raise InputError(f"k must hold different numbers of at least 1, found {self.k}")
        if not self.temperature > 0:
            raise InputError(f"temperature must be positive, found {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class KNN(Labelled):
    """Votes of the most similar training images, with the training features as bank.

    With several k validation images are scored too, where there are some: one can be chosen.

    Args:
        features: as they are ("raw"), whitened by the training features, or both.
        protocol: how neighbours vote.
    """

    job: ClassVar[str] = "evaluate_frozen"
    stage: ClassVar[str] = "k-NN"

    kind: Literal["knn"] = "knn"
    features: tuple[Literal["raw", "whitened"], ...] = ("raw",)
    protocol: KNNProtocol = KNNProtocol()

    @property
    def metric(self) -> str:  # type: ignore[override]
        return f"top1_k{self.protocol.k[0]}"

    @property
    def kinds_of_features(self) -> tuple[str, ...]:
        return self.features

    def check(self, data: Counts) -> None:
        super().check(data)
        most = max(self.protocol.k)
        if data.train is not None and self.labelled(data) < most:
            raise InputError(
                f"protocol.k: {most} neighbours are wanted, but only {self.labelled(data)} "
                "training images have a label: lower k"
            )

    def work(self, data: Counts) -> Work:
        scored = [split for split in self._scored if split == "test" or data.validation]
        return Work(
            features=frozenset((self.dataset, split, False) for split in ("train", *scored))
        )

    @property
    def _scored(self) -> tuple[str, ...]:
        return ("test", "validation") if len(self.protocol.k) > 1 else ("test",)

    def score(self, subject: Subject, name: str) -> Found:
        splits = subject.splits(self.dataset)
        scores: list[dict[str, Any]] = []
        subsets = self.subsets(splits)
        for kind in self.features:
            bank = subject.of_kind(kind, self.dataset, "train")
            assert bank is not None, "the bank has no images"
            for seed, subset in subsets.items():
                features, labels = bank[0][subset], bank[1][subset]
                for split in self._scored:
                    queries = subject.of_kind(kind, self.dataset, split)
                    if queries is None:
                        continue
                    found = knn_accuracy(
                        features,
                        labels,
                        *queries,
                        classes=len(splits.train.classes),
                        protocol=self.protocol,
                        device=subject.device,
                    )
                    where: dict[str, Any] = {"split": split, "features": kind, "probe_seed": seed}
                    scores += [score(metric, value, **where) for metric, value in found.items()]
        return Found(scores, {"labels": len(next(iter(subsets.values())))})


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    *,
    classes: int,
    protocol: KNNProtocol,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Accuracy of weighted votes among the nearest neighbours by cosine similarity.

    A query's score for a class is the sum of exp(s_i / T) over those of its k nearest neighbours
    that have the class, with s_i their cosine similarity.

    Args:
        bank: (N, D) features with ``bank_labels`` int64 (N,).
        queries: (M, D) features with ``labels`` int64 (M,).
        classes: number of classes.
        protocol: numbers of neighbours and temperature.
        device: where to compute; the bank goes there in pieces.

    Returns:
        "top1_k<k>" for every k, and "top5_k<k>" with more than 5 classes, in percent.

    Raises:
        InputError: when the bank has fewer features than the largest k.

    Source: Wu et al. 2018, section 3.4, as in DINO (Caron et al. 2021).
    """
    most = max(protocol.k)
    if len(bank) < most:
        raise InputError(f"k is {most}, but the bank has only {len(bank)} features: lower k")
    similarity, neighbours = _nearest(bank, queries, most, device)
    # relative to the nearest one, or a low temperature would be beyond the largest float
    weights = ((similarity - similarity[:, :1]) / protocol.temperature).exp()
    classes_of = bank_labels.to(neighbours.device)[neighbours]
    found = {}
    for k in protocol.k:
        votes = weights.new_zeros(len(queries), classes)
        votes.scatter_add_(1, classes_of[:, :k], weights[:, :k])
        for top in (1, 5) if classes > 5 else (1,):
            found[f"top{top}_k{k}"] = topk_accuracy(votes, labels.to(votes.device), top)
    return found


def _nearest(
    bank: Tensor, queries: Tensor, most: int, device: str | torch.device
) -> tuple[Tensor, Tensor]:
    """Similarities and places in the bank of the nearest neighbours, nearest first: (M, most)."""
    queries = F.normalize(queries.to(device), dim=1)
    best = queries.new_empty(len(queries), 0)
    places = torch.empty(len(queries), 0, dtype=torch.long, device=device)
    for first in range(0, len(bank), BANK_ROWS):
        piece = F.normalize(bank[first : first + BANK_ROWS].to(device), dim=1)
        rows = max(1, (IN_CACHE if piece.device.type == "cpu" else SIMILARITIES) // len(piece))
        found = [
            (part @ piece.T).topk(min(most, len(piece)), dim=1) for part in queries.split(rows)
        ]
        best = torch.cat((best, torch.cat([values for values, _ in found])), dim=1)
        places = torch.cat((places, torch.cat([at for _, at in found]) + first), dim=1)
        best, order = best.topk(min(most, best.shape[1]), dim=1)
        places = places.gather(1, order)
    return best, places
