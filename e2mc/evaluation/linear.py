"""Linear classifiers on a frozen backbone: the linear protocol of SwAV and VICReg.

Features are computed once, or anew on a fresh random view in every epoch; then paradigms of one
data set with equal views learn from the same passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from e2mc.data.views import ViewRecipe
from e2mc.errors import InputError
from e2mc.evaluation.bank import BankFeatures
from e2mc.evaluation.features import CachedFeatures, FeatureStream, ViewFeatures, whiten
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.metrics import rank_summary, summary_of_covariance
from e2mc.evaluation.paradigm import Counts, Found, Labelled, Work
from e2mc.evaluation.probes import HeldOut, Probe, linear_probe, train_probes
from e2mc.evaluation.subject import LabelledFeatures, Subject


@dataclass(frozen=True, kw_only=True)
class Linear(Labelled):
    """Linear heads on frozen features.

    Args:
        features: as they are ("raw"), whitened by the training features, or both.
        views: a new random view of each image in every epoch; None: features are computed once.
        views_bank: so many random views of each image, whose features are computed once and kept in
            bfloat16; the epochs go through them in turn. None: fresh views, the official protocol.
        spatial: features pooled to 2 x 2 places instead of one.
        shared_pass: one pass over random views serves all heads; False: each its own.
        protocol: how heads are trained.
    """

    job: ClassVar[str] = "evaluate_frozen"
    metric: ClassVar[str] = "top1"
    stage: ClassVar[str] = "linear classifiers"
    selects_epochs: ClassVar[bool] = True
    tells_saturation: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    kind: Literal["linear"] = "linear"
    features: tuple[Literal["raw", "whitened"], ...] = ("raw", "whitened")
    views: ViewRecipe | None = None
    views_bank: int | None = None
    spatial: bool = False
    shared_pass: bool = True
    protocol: LinearProtocol

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views is None and (self.spatial or self.protocol.batch_norm):
            raise InputError("spatial and batch_norm need views: give the recipe of random views")
        if self.views_bank is not None and (self.views is None or self.views_bank < 1):
            raise InputError(
                "views_bank must be at least 1 and needs views, the recipe of random views; found "
                f"views_bank {self.views_bank} and {'no views' if self.views is None else 'views'}"
            )
        if self.views is not None and self.views.count != 1:
            raise InputError(f"views.count must be 1, found {self.views.count}")

    @property
    def kinds_of_features(self) -> tuple[str, ...]:
        return self.features

    def check(self, data: Counts) -> None:
        super().check(data)
        rates = self.protocol.learning_rates
        if len(rates) > 1 and data.validation == 0:
            raise InputError(
                f"protocol.learning_rates: {len(rates)} rates would be chosen on the test images: "
                f"set data.sets.{self.dataset}.validation, or give one rate"
            )

    def pass_key(self, name: str) -> Hashable:
        if self.views is None or not self.shared_pass:
            return name
        return self.dataset, self.views, self.views_bank, self.spatial

    def sides(self, size: int) -> set[tuple[int, bool]]:
        views = set() if self.views is None else {self.views.size}
        return {(side, self.spatial) for side in {size, *views}}

    def work(self, data: Counts) -> Work:
        splits = ["test"] + (["validation"] if data.validation else [])
        if self.views is None or "whitened" in self.features:
            splits.append("train")
        # an epoch shows the images of the largest set of labels; smaller ones lie within it
        shown = self.protocol.epochs if self.views_bank is None else self.views_bank
        streamed = 0 if self.views is None else shown * self.labelled(data)
        computed = frozenset((self.dataset, split, self.spatial) for split in splits)
        kept = 0 if self.views_bank is None else streamed
        return Work(features=computed, streamed=streamed, banked=kept)

    @property
    def remark(self) -> str:
        if self.views_bank is None:
            return ""
        return (
            f"heads learn from a bank of {self.views_bank} random views per image, whose features "
            "are computed once and kept in bfloat16; the official protocol draws a new view of "
            "each image in every epoch"
        )

    def score(self, subject: Subject, name: str) -> Found:
        """On features that are computed once."""
        splits = subject.splits(self.dataset)
        scores: list[dict] = []
        details: dict[str, Any] = {"rank": rank_summary(subject.known(self.dataset, "train")[0])}
        for kind in self.features:
            of_kind = partial(subject.of_kind, kind, self.dataset)
            train, test = of_kind("train"), of_kind("test")
            assert train is not None and test is not None
            found, details[kind] = linear_probe(
                CachedFeatures(train[0], subject.seed.order_of(0)),
                splits.train.labels,
                self.subsets(splits),
                HeldOut(test, of_kind("validation")),
                classes=len(splits.train.classes),
                protocol=self.protocol,
                features=kind,
                seed=subject.seed,
            )
            scores += found
        return Found(scores, details)

    @classmethod
    def score_together(cls, paradigms: Mapping[str, Self], subject: Subject) -> dict[str, Found]:
        first = next(iter(paradigms.values()))
        if first.views is None:
            return super().score_together(paradigms, subject)
        return _streamed(paradigms, first.views, subject)


def _streamed(
    paradigms: Mapping[str, Linear], views: ViewRecipe, subject: Subject
) -> dict[str, Found]:
    """Linear heads on new random views in every epoch, all from the same passes."""
    first = next(iter(paradigms.values()))
    dataset, spatial, device = first.dataset, first.spatial, subject.device
    splits = subject.splits(dataset)
    labels = splits.train.labels.to(device)
    stream = _stream(paradigms, views, subject)
    probes = {
        (name, kind): Probe(
            stream.dim,
            labels,
            paradigm.subsets(splits),
            len(splits.train.classes),
            paradigm.protocol,
            kind,
            stream.positions,
            subject.seed,
        )
        for name, paradigm in paradigms.items()
        for kind in paradigm.features
    }
    kinds = {kind for _, kind in probes}
    held_out: dict[str, HeldOut] = {
        kind: _held_out(subject, dataset, spatial, kind) for kind in kinds
    }
    what = ", ".join(paradigms)
    state = subject.state(next(iter(paradigms)))
    train_probes(stream, list(probes.values()), held_out, state=state, what=what)
    shared: dict[str, Any] = {"trained_together": list(paradigms)}
    if "whitened" in kinds:
        shared["rank"] = summary_of_covariance(subject.moments(dataset, spatial).covariance)
    results = {}
    for name, paradigm in paradigms.items():
        found = {kind: probes[name, kind].scores(held_out[kind]) for kind in paradigm.features}
        scores = list(itertools.chain.from_iterable(part for part, _ in found.values()))
        results[name] = Found(scores, shared | {kind: part for kind, (_, part) in found.items()})
    return results


def _stream(paradigms: Mapping[str, Linear], views: ViewRecipe, subject: Subject) -> FeatureStream:
    """Fresh views in every epoch, or those of a bank in turn."""
    name, first = next(iter(paradigms.items()))
    splits = subject.splits(first.dataset)
    if first.views_bank is None:
        return ViewFeatures(
            subject.frozen_backbone,
            splits.train,
            recipe=views,
            normalisation=subject.datasets[first.dataset].normalisation,
            device=subject.device,
            spatial=first.spatial,
            seed=subject.seed.of(0),
            order_seed=subject.seed.order_of(0),
        )
    subsets = [
        part for paradigm in paradigms.values() for part in paradigm.subsets(splits).values()
    ]
    indices = torch.cat(subsets).unique()
    return BankFeatures(
        subject.bank(name, first.dataset, indices, views, first.views_bank, first.spatial),
        indices,
        device=subject.device,
        spatial=first.spatial,
        seed=subject.seed.order_of(0),
    )


def _held_out(subject: Subject, dataset: str, spatial: bool, kind: str) -> HeldOut:
    test = subject.known(dataset, "test", spatial)
    validation = subject.features(dataset, "validation", spatial)
    if kind == "raw":
        return HeldOut(test, validation)
    whitener = [part.to(subject.device) for part in subject.moments(dataset, spatial).whitening()]

    def transform(features: Tensor) -> Tensor:
        return whiten(features, *whitener)

    def transformed(part: LabelledFeatures) -> LabelledFeatures:
        values = [transform(piece.to(subject.device)).cpu() for piece in part[0].split(8192)]
        return torch.cat(values), part[1]

    validation = None if validation is None else transformed(validation)
    return HeldOut(transformed(test), validation, transform)
