"""What every paradigm is: a protocol, what it needs, how it scores a subject, what tables call it.

A paradigm is a frozen dataclass in a file of its own, whose fields are the keys of a study, and a
line in ``PARADIGMS`` of ``e2mc.evaluation``. Nothing else in the package knows its name.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor

from e2mc.data.images import Splits
from e2mc.data.subsets import balanced_subset, stratified_subset
from e2mc.errors import InputError, expect_integer, expect_known
from e2mc.evaluation.seeds import FIRST, EvaluationSeed
from e2mc.evaluation.subject import Subject

Score = dict[str, str | float | int]


class Found(NamedTuple):
    """What a paradigm finds: scores (see ``metrics.score``), and details of how they came about."""

    scores: list[Score]
    details: dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """What a study knows of a data set before anything is read.

    Attributes:
        train, validation, test: images; None where the study does not say.
        lists: label list -> number of images that it names.
        classes: how many there are, 1 without labels; None where the study does not say.
        several_labels: whether an image can have several.
    """

    train: int | None
    validation: int | None
    test: int | None
    lists: Mapping[str, int]
    classes: int | None = None
    several_labels: bool = False

    @property
    def held_out(self) -> int | None:
        """Images on which choices are made: the validation images, the test's without any."""
        return self.validation or self.test


@dataclass(frozen=True)
class Work:
    """What scoring a run takes, in images.

    Attributes:
        features: (data set, split, spatial) whose features are computed once for all paradigms.
        streamed: images on random views; paradigms that share their passes take the most of them.
        banked: how many of these have their features kept on disk until the heads are trained.
        trained: images that the backbone is trained on.
        looked_at: images that the backbone in training is scored on.
    """

    features: frozenset[tuple[str, str, bool]] = frozenset()
    streamed: int = 0
    banked: int = 0
    trained: int = 0
    looked_at: int = 0


class Paradigm:
    """One way of scoring a checkpoint.

    Attributes:
        kind: its name in ``PARADIGMS``.
        label: what tables call it.
        dataset: which data set of the study it scores on.
        job: the rule whose job it belongs to; paradigms of one job share features and passes.
        metric: of its headline score, as in ``metrics.score``; None for what is no column.
        stage: what the figure of costs calls it.
        selects_epochs: whether it has a score of the best epoch beside that of the last.
        tells_saturation: whether it shows that a base was not trained to its end.
        on_embeddings: whether it scores what a criterion sees, and so needs the method.
        criteria: name -> arguments of those whose terms it measures.
        draws: whether it draws anything that evaluation seeds change.
        frozen: whether it scores features of the backbone as it is, and not what it learns.
    """

    kind: str
    label: str
    dataset: str
    job: ClassVar[str]
    metric: ClassVar[str]
    stage: ClassVar[str] = ""
    selects_epochs: ClassVar[bool] = False
    tells_saturation: ClassVar[bool] = False
    on_embeddings: ClassVar[bool] = False
    criteria: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    draws: ClassVar[bool] = False
    frozen: ClassVar[bool] = True

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @property
    def kinds_of_features(self) -> tuple[str, ...]:
        """On which features it has scores."""
        return ("raw",)

    @property
    def remark(self) -> str:
        """What a table says of it beside its protocol's name, in a sentence; empty for nothing."""
        return ""

    def values(self) -> dict[str, Any] | None:
        """What a result says of its protocol; None where there is nothing to choose."""
        return asdict(self) or None  # type: ignore[call-overload]

    def check(self, data: Counts) -> None:
        """Raises InputError, beginning with the key, where the data set cannot serve it."""

    def pass_key(self, name: str) -> Hashable:
        """Paradigms of one kind with equal keys learn from the same passes over the images."""
        return name

    def sides(self, size: int) -> set[tuple[int, bool]]:
        """(side of the images, whether their map is needed) of what passes the backbone.

        Args:
            size: side at which images are scored.
        """
        return {(size, False)}

    def work(self, data: Counts) -> Work:
        """What it takes, for the estimate of costs."""
        return Work()

    def score(self, subject: Subject, name: str) -> Found:
        """Scores a subject; ``name`` is that of the paradigm in the study."""
        raise NotImplementedError

    @classmethod
    def score_together(cls, paradigms: Mapping[str, Self], subject: Subject) -> dict[str, Found]:
        """Scores of paradigms with one ``pass_key``, by their names."""
        return {name: paradigm.score(subject, name) for name, paradigm in paradigms.items()}


@dataclass(frozen=True, kw_only=True)
class Column(Paradigm):
    """A paradigm that tables show: a study lists it with its own label, data set and protocol.

    Args:
        protocol: its settings, a dataclass that checks their ranges, where it has any.
        base_protocol: changes to the protocol on single bases.
    """

    kind: str
    label: str
    dataset: str = "images"
    protocol: Any = None
    base_protocol: dict[str, dict[str, Any]] = field(default_factory=dict)

    def values(self) -> dict[str, Any] | None:
        """Without the changes for bases: a result is of one base, under the protocol it has."""
        return {key: value for key, value in asdict(self).items() if key != "base_protocol"}

    def with_protocol(self, changes: Mapping[str, Any]) -> Self:
        """It with some values of its protocol changed, and nothing left to change.

        Raises InputError for values that the protocol refuses.
        """
        return replace(self, protocol=replace(self.protocol, **changes), base_protocol={})

    def with_rates(self) -> Column:
        """It with details of what heads of several learning rates reach, see ``rates``.

        Raises InputError where it has no such heads.
        """
        raise InputError(f"kind {self.kind} has no heads of several rates: leave it out")


@dataclass(frozen=True, kw_only=True)
class Labelled(Column):
    """Learns from all labels, from a share of them, from some of each class, or from a list's.

    Args:
        fraction: share of the labels, in (0, 1].
        labels_per_class: so many labels of every class, at least 1, instead of a share.
        label_list: a published list of the data set, instead of a share.
        label_seeds: of the draws of labels, and of what is learnt from them.
    """

    fraction: float = 1.0
    labels_per_class: int | None = None
    label_list: str | None = None
    label_seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"fraction must be above 0 and at most 1, found {self.fraction}")
        if self.labels_per_class is not None:
            expect_integer(self.labels_per_class, "labels_per_class", at_least=1)
        given = {
            "fraction": None if self.fraction == 1 else self.fraction,
            "labels_per_class": self.labels_per_class,
            "label_list": self.label_list,
        }
        both = [f"{name} {value}" for name, value in given.items() if value is not None]
        if len(both) > 1:
            raise InputError(
                "give one of fraction, labels_per_class and label_list, found "
                f"{' and '.join(both)}: leave the others out, or set fraction to 1.0 and the rest "
                "to null where another study says them"
            )
        if not self.label_seeds or min(self.label_seeds) < 0:
            raise InputError(
                f"label_seeds must hold one or more seeds of at least 0, found {self.label_seeds}"
            )

    def check(self, data: Counts) -> None:
        if data.several_labels:
            raise InputError(
                f"dataset: the images of {self.dataset} have several labels each, {self.kind} "
                "learns one: use kind svm, or another data set"
            )
        if self.label_list is not None:
            expect_known(self.label_list, data.lists, "label_list: list")
            return
        if self.labels_per_class is not None:
            if data.train is not None and self.labelled(data) > data.train:
                raise InputError(
                    f"labels_per_class: {self.labels_per_class} of each of {data.classes:,} "
                    f"classes are {self.labelled(data):,}, more than the {data.train:,} training "
                    "images: lower it"
                )
            return
        fewest = data.classes or 1  # of every class that there is one is taken, or it is an error
        if data.train is not None and self.fraction < 1 and self.labelled(data) < fewest:
            raise InputError(
                f"fraction: {self.fraction:g} of {data.train:,} images are "
                f"{self.labelled(data)}, fewer than the {fewest} classes: choose a larger fraction"
            )

    def labelled(self, data: Counts) -> int:
        """How many training images it learns from."""
        if self.label_list is not None:
            return data.lists[self.label_list]
        if self.labels_per_class is not None:
            assert data.classes is not None, "the study does not say how many classes there are"
            return self.labels_per_class * data.classes
        assert data.train is not None, "the study does not say how many images there are"
        return round(self.fraction * data.train)

    def subsets(self, splits: Splits) -> dict[int, Tensor]:
        """Seed -> the training images whose labels are used, int64."""
        if self.label_list is not None:
            return {seed: splits.lists[self.label_list] for seed in self.label_seeds}
        train = splits.train
        if self.labels_per_class is not None:
            return {
                seed: balanced_subset(train.labels, self.labels_per_class, seed, train.classes)
                for seed in self.label_seeds
            }
        return {
            seed: stratified_subset(train.labels, self.fraction, seed, train.classes)
            for seed in self.label_seeds
        }


def together(paradigms: Mapping[str, Paradigm]) -> Iterable[dict[str, Paradigm]]:
    """The paradigms in groups that share their passes."""
    groups: dict[Hashable, dict[str, Paradigm]] = {}
    for name, paradigm in paradigms.items():
        groups.setdefault((paradigm.kind, paradigm.pass_key(name)), {})[name] = paradigm
    return groups.values()


def score_with_seeds(
    paradigms: Mapping[str, Paradigm],
    subject: Subject,
    seeds: Sequence[EvaluationSeed],
    there: Mapping[str, Found] | None = None,
) -> dict[str, Found]:
    """Scores of paradigms that share their passes, by their names, under every evaluation seed.

    The details are those of the first seed; those of others lie in ``evaluation_seeds``, by seed.
    What draws nothing is scored once, and says seed 0.

    Args:
        paradigms: with one ``pass_key``.
        subject: what is scored.
        seeds: under which.
        there: what was found under other seeds, which comes first.
    """
    kind = type(next(iter(paradigms.values())))
    found: dict[str, Found] = dict(there or {})
    for seed in seeds if kind.draws else [FIRST]:
        for name, (scores, details) in kind.score_together(
            paradigms, subject.with_seed(seed)
        ).items():
            of_seed = [score | {"evaluation_seed": seed.number} for score in scores]
            if name not in found:
                found[name] = Found(of_seed, details)
                continue
            found[name].scores.extend(of_seed)
            found[name].details.setdefault("evaluation_seeds", {})[str(seed.number)] = details
    return found
