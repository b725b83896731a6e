"""Linear classifiers on a frozen backbone: the linear protocol of SwAV and VICReg.

Features are computed once, or anew on a fresh random view in every epoch; then paradigms of one
data set with equal views learn from the same passes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from e2mc.data.views import ViewRecipe
from e2mc.errors import InputError
from e2mc.evaluation.bank import BankFeatures
from e2mc.evaluation.features import (
    CachedFeatures,
    FeatureStream,
    ViewFeatures,
    standardise,
    whiten,
)
from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.metrics import rank_summary, summary_of_covariance
from e2mc.evaluation.paradigm import Counts, Found, Labelled, Score, Work
from e2mc.evaluation.probes import HeldOut, Learner, Probe, train_probes
from e2mc.evaluation.rates import KINDS, accuracy_by_rate, at_several_rates, fixed_rate
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
    rates: ClassVar[bool] = False

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
        if self.views is None or {"standardised", "whitened"} & {*self.kinds_learnt}:
            splits.append("train")
        # an epoch shows the images of the largest set of labels; smaller ones lie within it
        shown = self.protocol.epochs if self.views_bank is None else self.views_bank
        streamed = 0 if self.views is None else shown * self.labelled(data)
        computed = frozenset((self.dataset, split, self.spatial) for split in splits)
        kept = 0 if self.views_bank is None else streamed
        return Work(features=computed, streamed=streamed, banked=kept)

    def with_rates(self) -> LinearWithRates:
        return LinearWithRates(**{f.name: getattr(self, f.name) for f in fields(self)})

    @property
    def remark(self) -> str:
        if self.views_bank is None:
            return ""
        return (
            f"heads learn from a bank of {self.views_bank} random views per image, whose features "
            "are computed once and kept in bfloat16; the official protocol draws a new view of "
            "each image in every epoch"
        )

    @property
    def kinds_learnt(self) -> tuple[str, ...]:
        """The kinds of features that some head learns from."""
        return tuple(kind for kind in KINDS if kind in self.features or self.rates)

    def learners(
        self, subject: Subject, stream: FeatureStream, labels: Tensor, kind: str
    ) -> list[Learner]:
        """The heads on a kind of features: of the scores, then at several rates, if others.

        Args:
            subject: whose labels they learn.
            stream: from which they learn.
            labels: of all training images, on the device of the features.
            kind: one of ``kinds_learnt``.
        """
        splits = subject.splits(self.dataset)

        def heads(of: type[Learner], protocol: LinearProtocol) -> Learner:
            return of(
                stream.dim,
                labels,
                self.subsets(splits),
                len(splits.train.classes),
                protocol,
                kind,
                stream.positions,
                subject.seed,
            )

        found: list[Learner] = [heads(Probe, self.protocol)] if kind in self.features else []
        several = at_several_rates(self.protocol)
        if self.rates and not (found and several == self.protocol):
            found.append(heads(Learner, several))
        return found

    def found(
        self, learners: Mapping[str, Sequence[Learner]], held_out: Mapping[str, HeldOut]
    ) -> Found:
        """What the learners on each kind of features have found, after the last epoch."""
        scores: list[Score] = []
        details: dict[str, Any] = {}
        for kind in self.features:
            [probe] = [one for one in learners[kind] if isinstance(one, Probe)]
            of_kind, details[kind] = probe.scores(held_out[kind])
            scores += of_kind
        if self.rates:
            details["rates"] = {
                "learning_rates": list(at_several_rates(self.protocol).learning_rates),
                "fixed": fixed_rate(self.protocol),
                "features": {
                    kind: accuracy_by_rate(of_kind[-1], held_out[kind])
                    for kind, of_kind in learners.items()
                },
            }
        return Found(scores, details)

    def score(self, subject: Subject, name: str) -> Found:
        """On features that are computed once."""
        labels = subject.splits(self.dataset).train.labels
        learners: dict[str, list[Learner]] = {}
        held_out: dict[str, HeldOut] = {}
        for kind in self.kinds_learnt:
            of_kind = partial(subject.of_kind, kind, self.dataset)
            train, test = of_kind("train"), of_kind("test")
            assert train is not None and test is not None
            held_out[kind] = HeldOut(test, of_kind("validation"))
            stream = CachedFeatures(train[0], subject.seed.order_of(0))
            learners[kind] = self.learners(subject, stream, labels, kind)
            train_probes(stream, learners[kind], held_out)
        scores, details = self.found(learners, held_out)
        rank = rank_summary(subject.known(self.dataset, "train")[0])
        return Found(scores, {"rank": rank} | details)

    @classmethod
    def score_together(cls, paradigms: Mapping[str, Self], subject: Subject) -> dict[str, Found]:
        first = next(iter(paradigms.values()))
        if first.views is None:
            return super().score_together(paradigms, subject)
        return _streamed(paradigms, first.views, subject)


@dataclass(frozen=True, kw_only=True)
class LinearWithRates(Linear):
    """Also trains heads at several rates on three kinds of features, see ``e2mc.evaluation.rates``.

    The scores are those of ``Linear``.
    """

    rates: ClassVar[bool] = True

    def values(self) -> dict[str, Any] | None:
        rates = at_several_rates(self.protocol).learning_rates
        return (super().values() or {}) | {"rates": list(rates)}


def _streamed(
    paradigms: Mapping[str, Linear], views: ViewRecipe, subject: Subject
) -> dict[str, Found]:
    """Linear heads on new random views in every epoch, all from the same passes."""
    first = next(iter(paradigms.values()))
    dataset, spatial, device = first.dataset, first.spatial, subject.device
    labels = subject.splits(dataset).train.labels.to(device)
    stream = _stream(paradigms, views, subject)
    learners = {
        name: {
            kind: paradigm.learners(subject, stream, labels, kind) for kind in paradigm.kinds_learnt
        }
        for name, paradigm in paradigms.items()
    }
    kinds = {kind for of_name in learners.values() for kind in of_name}
    held_out = {kind: _held_out(subject, dataset, spatial, kind) for kind in kinds}
    every = [one for of_name in learners.values() for some in of_name.values() for one in some]
    what = ", ".join(paradigms)
    state = subject.state(next(iter(paradigms)))
    train_probes(stream, every, held_out, state=state, what=what)
    shared: dict[str, Any] = {"trained_together": list(paradigms)}
    if "whitened" in kinds:
        shared["rank"] = summary_of_covariance(subject.moments(dataset, spatial).covariance)
    results = {}
    for name, paradigm in paradigms.items():
        scores, details = paradigm.found(learners[name], held_out)
        results[name] = Found(scores, shared | details)
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
    """The held-out features of a kind, and how training features become such ones."""
    test = subject.known(dataset, "test", spatial)
    validation = subject.features(dataset, "validation", spatial)
    if kind == "raw":
        return HeldOut(test, validation)
    moments = subject.moments(dataset, spatial)
    apply, fitted = (
        (whiten, moments.whitening())
        if kind == "whitened"
        else (standardise, moments.standardising())
    )
    parts = [part.to(subject.device) for part in fitted]

    def transform(features: Tensor) -> Tensor:
        return apply(features, *parts)

    def transformed(part: LabelledFeatures) -> LabelledFeatures:
        values = [transform(piece.to(subject.device)).cpu() for piece in part[0].split(8192)]
        return torch.cat(values), part[1]

    validation = None if validation is None else transformed(validation)
    return HeldOut(transformed(test), validation, transform)
