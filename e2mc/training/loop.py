"""Pre-training and continued pre-training: the same loop, with or without an add-on criterion.

Every random draw is a function of (seed, epoch, step), so a run that was killed and resumed from
its last state makes the same weights as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2mc.criteria import create_criterion
from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe, random_views
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.models.checkpoint import Checkpoint, load_strictly
from e2mc.optim import OptimizerSpec, ScheduleSpec, create_optimizer, learning_rate_factor
from e2mc.progress import Progress
from e2mc.state import fingerprint, save_atomically, write_text


@dataclass(frozen=True)
class Component:
    """A method or a criterion by its registered name, with the arguments that build it."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)

    __pydantic_config__ = {"extra": "forbid"}


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides the weights of a run, apart from its images and its start.

    Args:
        backbone: name in ``e2mc.models.BACKBONES``.
        method: base method whose loss is minimised.
        views: the views of each image; the method's global views come first.
        normalisation: applied to every view.
        optimizer, schedule: see ``e2mc.optim``.
        epochs: passes over the images, at least 1.
        batch_size: images per step, at least 2.
        drop_last: leave out the last, smaller batch of an epoch.
        criterion: add-on criterion; its value is added to the method's loss. None for plain
            (continued) pre-training.
        restore_optimizer: start from the optimizer state of the checkpoint.
        keep_optimizer: write the optimizer's state into the checkpoint, for ``restore_optimizer``.
        seed: decides initial weights, order of the images and views.
    """

    backbone: str
    method: Component
    views: tuple[ViewRecipe, ...]
    normalisation: Normalisation
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    epochs: int
    batch_size: int
    drop_last: bool = True
    criterion: Component | None = None
    restore_optimizer: bool = False
    keep_optimizer: bool = False
    seed: int = 0

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, found {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, found {self.batch_size}")


class TrainingError(RuntimeError):
    """A run that cannot go on, with the step and the reason in one sentence."""


def pretrain(
    spec: TrainingSpec,
    images: ImageSet,
    output: Path,
    *,
    start: Checkpoint | None = None,
    device: str = "cpu",
    what: str = "pre-training",
    log_every: int = 1,
    state_every: int = 100,
) -> None:
    """Trains and writes ``output`` (a checkpoint) and, beside it, ``training.csv`` (every term).

    Args:
        spec: what to do.
        images: the training images; their labels are not looked at.
        output: the checkpoint to write. A run that was stopped goes on from ``<output>.state``.
        start: the checkpoint to continue from; None starts from random weights.
        device: where to compute, e.g. "cpu" or "cuda".
        what: name of the run in the progress display.
        log_every: steps between two rows of ``training.csv``.
        state_every: steps between two saves of the state.

    Raises:
        TrainingError: when the loss is not finite or there are fewer images than one batch.
        CheckpointError: when the weights of ``start`` do not fit the method.
    """
    output = Path(output)
    run = _Run(spec, images, start, device)
    state_path = output.with_name(output.name + ".state")
    run.resume(state_path)
    progress = Progress(
        what, run.total_steps, done=run.step, unit="images", per_step=spec.batch_size
    )
    while run.step < run.total_steps:
        loss, terms = run.advance()
        if run.step % log_every == 0 or run.step == run.total_steps:
            run.log(loss, terms)
        if run.step % state_every == 0 and run.step < run.total_steps:
            run.save(state_path)
        progress.step()
    write_text(run.log_text(), output.with_name("training.csv"))
    run.checkpoint().save(output)
    state_path.unlink(missing_ok=True)


class _Run:
    """The parts of one run and where it stands."""

    def __init__(
        self, spec: TrainingSpec, images: ImageSet, start: Checkpoint | None, device: str
    ) -> None:
        self.spec, self.images, self.start, self.device = spec, images, start, device
        torch.manual_seed(spec.seed)
        backbone = create_backbone(spec.backbone, images.images.shape[1])
        self.method = create_method(spec.method.name, backbone, **spec.method.params)
        if start is not None:
            run_state = {key: self.method.state_dict()[key] for key in self.method.run_state}
            load_strictly(self.method, start.model | run_state, f"method {spec.method.name}")
        self.method.to(device, memory_format=torch.channels_last).train()
        self.criterion: nn.Module | None = None
        if spec.criterion is not None:
            self.criterion = create_criterion(spec.criterion.name, **spec.criterion.params)
            self.criterion.to(device)
        self.optimizer = create_optimizer(spec.optimizer, self.method.parameter_groups())
        if spec.restore_optimizer and start is not None and start.optimizer is not None:
            settings = [dict(group, params=None) for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(start.optimizer)
            for group, setting in zip(self.optimizer.param_groups, settings, strict=True):
                group.update(setting, params=group["params"])
        self.initial_rates = [group["lr"] for group in self.optimizer.param_groups]
        batches = len(images) / spec.batch_size
        self.steps_per_epoch = int(batches) if spec.drop_last else -int(-batches // 1)
        if self.steps_per_epoch < 1:
            raise TrainingError(
                f"{len(images)} images do not fill one batch of {spec.batch_size}: lower "
                "batch_size or use more images"
            )
        self.total_steps = spec.epochs * self.steps_per_epoch
        self.step = 0
        self.rows: list[dict[str, float]] = []

    def advance(self) -> tuple[Tensor, dict[str, Tensor]]:
        """One optimizer step; returns the loss and its terms."""
        epoch, position = divmod(self.step, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.initial_rates, strict=True):
            group["lr"] = rate
            if group.get("name") not in self.spec.optimizer.group_lr:
                group["lr"] *= learning_rate_factor(
                    self.spec.schedule, self.step, self.steps_per_epoch, self.spec.epochs
                )
        views = self._views(epoch, position)
        output = self.method(views)
        loss = output.loss
        terms = dict(output.terms)
        if self.criterion is not None:
            wanted = output.embeddings
            if self.criterion.views == "global":
                wanted = wanted[: self.method.global_views]
            added = self.criterion(*wanted)
            loss = loss + added.loss
            name = self.spec.criterion.name
            terms |= {f"{name}/{key}": term for key, term in added.terms.items()}
        if not torch.isfinite(loss):
            found = ", ".join(f"{name} = {float(value):g}" for name, value in terms.items())
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.step} of {self.total_steps} ({found}): "
                "lower the learning rate or the criterion's weights; nothing was written"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        terms["embedding_std"] = output.embeddings[0].detach().std(dim=0).mean()
        return loss.detach(), terms

    def _views(self, epoch: int, position: int) -> list[Tensor]:
        order = torch.randperm(len(self.images), generator=self._generator(epoch, 0))
        batch = order[position * self.spec.batch_size :][: self.spec.batch_size]
        images = self.images.images[batch].to(self.device)
        generator = self._generator(epoch, 1 + position)
        return [
            random_views(images, recipe, self.spec.normalisation, generator)
            for recipe in self.spec.views
            for _ in range(recipe.count)
        ]

    def _generator(self, *position: int) -> torch.Generator:
        """One of its own for every (seed, position): nothing to save, nothing to restore."""
        digest = fingerprint({"seed": self.spec.seed, "position": position})
        return torch.Generator().manual_seed(int(digest, 16))

    def log(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        row: dict[str, float] = {"step": self.step, "loss": float(loss)}
        row |= {name: float(value) for name, value in terms.items()}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        self.rows.append(row)

    def log_text(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.7g}" for key, value in row.items()} for row in self.rows)
        return text.getvalue()

    def _identity(self) -> str:
        start = None if self.start is None else self.start.provenance
        return fingerprint({"spec": asdict(self.spec), "images": len(self.images), "start": start})

    def save(self, path: Path) -> None:
        state = {
            "identity": self._identity(),
            "step": self.step,
            "rows": self.rows,
            "method": self.method.state_dict(),
            "criterion": None if self.criterion is None else self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, path)

    def resume(self, path: Path) -> None:
        """Goes back to a saved state, if there is one of the very same run."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["identity"] != self._identity():
            return
        self.method.load_state_dict(state["method"])
        if self.criterion is not None:
            self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.rows = state["step"], state["rows"]

    def checkpoint(self) -> Checkpoint:
        before = 0 if self.start is None else self.start.epochs
        return Checkpoint(
            backbone=self.spec.backbone,
            in_channels=self.images.images.shape[1],
            method=self.spec.method.name,
            method_params=self.spec.method.params,
            model={
                key: value.cpu()
                for key, value in self.method.state_dict().items()
                if key not in self.method.run_state
            },
            epochs=before + self.spec.epochs,
            optimizer=self.optimizer.state_dict() if self.spec.keep_optimizer else None,
            provenance={"identity": self._identity(), "torch": str(torch.__version__)},
        )
