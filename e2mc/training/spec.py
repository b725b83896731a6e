"""What a run of the training loop is asked to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.errors import InputError, MachineError
from e2mc.optim import OptimizerSpec, ScheduleSpec


@dataclass(frozen=True)
class Component:
    """A method or a criterion by its registered name, with the arguments that build it."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)

    __pydantic_config__ = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the loop goes, whatever it trains and however long.

    Args:
        optimizer, schedule: see ``e2mc.optim``.
        batch_size: images per step, over all processes, at least 2.
        drop_last: leave out the last, smaller batch of an epoch.
        precision: of the network in the forward pass; losses and weights stay in float32.
        compile: translate the backbone with ``torch.compile``, once for each size of views. Results
            differ in their last digits.
        micro_batches: equal parts in which a process works through its share of a batch, for want
            of memory. Batch normalisation, the losses and the criterion then see a part at a time,
            which is not the same as the whole batch.
        augmentation_streams: equal parts of a batch whose augmentations are drawn alike, see
            ``e2mc.data.source.Batch``.
        restore_optimizer: start from the optimizer state of the checkpoint, as VICReg's code does.
        keep_optimizer: write the optimizer's state into the checkpoint, for ``restore_optimizer``.
        head_warmup_epochs: the first of the epochs, in which heads learn by the method's own loss
            alone while the backbone rests, its batch statistics too. For heads that are fresh:
            those of random weights pull the features to wherever they happen to point. Linear
            probing before fine-tuning (Kumar et al. 2022, arXiv 2202.10054).
    """

    optimizer: OptimizerSpec
    schedule: ScheduleSpec = ScheduleSpec("constant")  # noqa: RUF009 (frozen)
    batch_size: int
    drop_last: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    micro_batches: int = 1
    augmentation_streams: int = 1
    restore_optimizer: bool = False
    keep_optimizer: bool = False
    head_warmup_epochs: int = 0

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("micro_batches", "augmentation_streams"):
            expect_at_least_one(getattr(self, name), name)
        if self.head_warmup_epochs < 0:
            raise InputError(
                f"head_warmup_epochs must be at least 0, found {self.head_warmup_epochs}"
            )
        if self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2, found {self.batch_size}")
        for name in ("micro_batches", "augmentation_streams"):
            if self.batch_size % getattr(self, name):
                raise InputError(
                    f"batch_size {self.batch_size} must be a multiple of {name} "
                    f"{getattr(self, name)}"
                )


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Recipe):
    """Everything that decides the weights of a run, apart from its images and its start.

    Args:
        epochs: length in passes over the images, at least 1.
        steps: length in batches instead, at least 1; what is said per epoch (warm-up, what a method
            does once an epoch) is said of passes all the same.
        backbone: name in ``e2mc.models.BACKBONES``.
        method: base method whose loss is minimised.
        views: the views of each image; the method's global views come first.
        normalisation: applied to every view.
        criteria: add-on criteria, each named once; their losses are added to the method's in this
            order. None of them for plain (continued) pre-training.
        seed: decides initial weights, order of the images and views.
    """

    epochs: int | None = None
    steps: int | None = None
    backbone: str
    method: Component
    views: tuple[ViewRecipe, ...]
    normalisation: Normalisation
    criteria: tuple[Component, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_one_length(self.epochs, self.steps)
        if self.epochs is not None and self.head_warmup_epochs >= self.epochs:
            raise InputError(
                f"head_warmup_epochs must leave some of the {self.epochs} epochs to the backbone, "
                f"found {self.head_warmup_epochs}"
            )
        expect_once(component.name for component in self.criteria)

    def values(self) -> dict[str, Any]:
        """Everything as nested dictionaries; what is younger than old files only if it is used.

        Files that were made before there was such a key say nothing of it, and stay valid.
        """
        found = asdict(self)
        for name in ("head_warmup_epochs", "steps"):
            if not found[name]:
                del found[name]
        return found


def expect_at_least_one(value: int, name: str) -> None:
    """Raises InputError for a count below 1."""
    if value < 1:
        raise InputError(f"{name} must be at least 1, found {value}")


def expect_one_length(epochs: int | None, steps: int | None) -> None:
    """Raises InputError unless the length of a run is said once, and is at least 1."""
    lengths = {"epochs": epochs, "steps": steps}
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) != 1:
        found = " and ".join(f"{name} {value}" for name, value in given.items()) or "none"
        raise InputError(
            f"the length is one of epochs and steps, found {found}: give one of them alone"
        )
    for name, value in given.items():
        expect_at_least_one(value, name)


def expect_once(criteria: Iterable[str]) -> None:
    """Raises InputError for a criterion that is named twice: their terms would have one name."""
    names = list(criteria)
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"criteria: {name!r} is named {names.count(name)} times, expected once: its terms "
                "are logged under its name"
            )


class TrainingError(MachineError):
    """A run that cannot go on, with the step and the reason in one sentence."""
