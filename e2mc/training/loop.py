"""Pre-training and continued pre-training: the same loop, with or without an add-on criterion.

Every random draw is a function of (seed, epoch, step), so a run that was killed and resumed from
its last state makes the same weights as one that was not, bit for bit on a CPU. On several
processes (torch.distributed, set up by the caller) each one has an equal part of every batch, and
the step is that of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from e2mc import interruption
from e2mc.criteria import create_criterion
from e2mc.data.source import Batch, ImageSource
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.distributed import rank, world_size
from e2mc.methods import Method, create_method
from e2mc.methods.base import trainable
from e2mc.models import create_backbone
from e2mc.models.checkpoint import Checkpoint, CheckpointError, load_strictly
from e2mc.optim import OptimizerSpec, ScheduleSpec, create_optimizer, learning_rate_factor
from e2mc.progress import Progress
from e2mc.state import fingerprint, save_atomically, write_text
from e2mc.training.batch_norm import synchronise_batch_norm
from e2mc.training.logs import Row, csv_text, open_loggers


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
        batch_size: images per step, over all processes, at least 2.
        drop_last: leave out the last, smaller batch of an epoch.
        criterion: add-on criterion; its value is added to the method's loss. None for plain
            (continued) pre-training.
        precision: of the network in the forward pass; losses and weights stay in float32.
        compile: translate the backbone with ``torch.compile``, once for each size of views. Results
            differ in their last digits.
        micro_batches: equal parts in which a process works through its share of a batch, for want
            of memory. Batch normalisation, the losses and the criterion then see a part at a time,
            which is not the same as the whole batch.
        augmentation_streams: equal parts of a batch whose augmentations are drawn alike, see
            ``e2mc.data.source.Batch``.
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
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    micro_batches: int = 1
    augmentation_streams: int = 1
    restore_optimizer: bool = False
    keep_optimizer: bool = False
    seed: int = 0

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("epochs", "micro_batches", "augmentation_streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, found {self.batch_size}")
        for name in ("micro_batches", "augmentation_streams"):
            if self.batch_size % getattr(self, name):
                raise ValueError(
                    f"batch_size {self.batch_size} must be a multiple of {name} "
                    f"{getattr(self, name)}"
                )


Measure = Callable[[Method], dict[str, float]]


class TrainingError(RuntimeError):
    """A run that cannot go on, with the step and the reason in one sentence."""


def pretrain(
    spec: TrainingSpec,
    images: ImageSource,
    output: Path,
    *,
    start: Checkpoint | None = None,
    device: str = "cpu",
    what: str = "pre-training",
    log_every: int = 1,
    state_every: int = 100,
    loggers: Sequence[str] = (),
    measure: Measure | None = None,
    identity: str | None = None,
) -> None:
    """Trains and writes ``output`` (a checkpoint) and, beside it, ``training.csv`` (every term).

    On several processes all of them call this with the same arguments; the first one writes.

    Args:
        spec: what to do.
        images: the training images; their labels are not looked at.
        output: the checkpoint to write. A run that was stopped goes on from ``<output>.state``.
        start: the checkpoint to continue from; None starts from random weights.
        device: where to compute, e.g. "cpu" or "cuda".
        what: name of the run in the progress display.
        log_every: steps between two rows of ``training.csv``.
        state_every: steps between two saves of the state.
        loggers: where else the rows of ``training.csv`` go while the run lasts; names of
            ``e2mc.training.logs.LOGGERS``.
        measure: what to measure of the method before the first epoch and after each one, without
            changing it; written to ``information.csv`` beside the checkpoint.
        identity: what else decides the run, e.g. which images they are and the version of the code;
            a state that was saved with another one is not resumed. Not part of the checkpoint.

    Raises:
        Interrupted: when ``e2mc.interruption`` asked to stop, after the state was saved.
        TrainingError: when the loss is not finite, there are fewer images than one batch, the
            processes cannot share a batch equally, or the GPU's memory does not suffice.
        CheckpointError: when the weights of ``start`` do not fit the method.
    """
    output = Path(output)
    run = _Run(spec, images, start, device, identity)
    state_path = output.with_name(output.name + ".state")
    run.resume(state_path)
    writes = rank() == 0
    progress = Progress(
        what, run.total_steps, done=run.step, unit="images", per_step=spec.batch_size, show=writes
    )
    views = run.views()
    if run.step == 0:
        run.measure(measure)
    names = loggers if writes else ()
    with open_loggers(names, output.parent, what=what, done=run.step, spec=asdict(spec)) as log:
        while run.step < run.total_steps:
            stop, terms = run.advance(views)
            if run.step % run.steps_per_epoch == 0:
                run.measure(measure)
            if run.step % log_every == 0 or run.step == run.total_steps:
                log(run.log(terms))
            unfinished = run.step < run.total_steps
            if unfinished and (stop or run.step % state_every == 0):
                run.save(state_path)
            progress.step()
            if unfinished and stop:
                raise interruption.Interrupted(
                    f"{what} was asked to stop and did after step {run.step} of "
                    f"{run.total_steps}; its state is in {state_path}, and the same command goes "
                    "on from there"
                )
    run.save_checkpoint(output)
    if writes:
        write_text(csv_text(run.rows), output.with_name("training.csv"))
        if run.measured:
            write_text(csv_text(run.measured), output.with_name("information.csv"))
        state_path.unlink(missing_ok=True)


class _Run:
    """The parts of one run and where it stands."""

    def __init__(
        self,
        spec: TrainingSpec,
        images: ImageSource,
        start: Checkpoint | None,
        device: str,
        identity: str | None = None,
    ) -> None:
        self.spec, self.images, self.start, self.device = spec, images, start, device
        self.identity = identity
        torch.manual_seed(spec.seed)
        backbone = create_backbone(spec.backbone, images.channels)
        self.method = create_method(spec.method.name, backbone, **spec.method.params)
        self.method.begin_run(len(images))
        if start is not None:
            run_state = {key: self.method.state_dict()[key] for key in self.method.run_state}
            load_strictly(self.method, start.model | run_state, f"method {spec.method.name}")
        self.method.to(device).to(memory_format=torch.channels_last).train()
        if spec.compile:
            self.method.backbone.compile(dynamic=False)
        self.forward: nn.Module = self.method
        if world_size() > 1:
            synchronise_batch_norm(self.method)
            # Else parameters are sorted into new buckets after the first step, also the first of a
            # resumed run, and gloo sums four ranks in another order: not the same bit by bit.
            fixed = torch.device(device).type == "cpu"
            self.forward = DistributedDataParallel(self.method, find_unused_parameters=fixed)
        self.criterion: nn.Module | None = None
        if spec.criterion is not None:
            self.criterion = create_criterion(spec.criterion.name, **spec.criterion.params)
            self.criterion.to(device)
        self.optimizer = create_optimizer(spec.optimizer, self.method.parameter_groups())
        if spec.restore_optimizer and start is not None:
            if start.optimizer is None:
                raise CheckpointError(
                    "restore_optimizer is set, but the checkpoint to go on from holds no optimizer "
                    "state: make it with keep_optimizer, or unset restore_optimizer"
                )
            settings = [dict(group, params=None) for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(start.optimizer)
            for group, setting in zip(self.optimizer.param_groups, settings, strict=True):
                group.update(setting, params=group["params"])
        if self.criterion is not None and trainable(self.criterion):
            own = {"name": "criterion", "params": trainable(self.criterion)}
            self.optimizer.add_param_group(own)
        self.initial_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(
            torch.device(device).type, enabled=spec.precision == "float16"
        )
        batches = len(images) / spec.batch_size
        self.steps_per_epoch = int(batches) if spec.drop_last else -int(-batches // 1)
        if self.steps_per_epoch < 1:
            raise TrainingError(
                f"{len(images)} images do not fill one batch of {spec.batch_size}: lower "
                "batch_size or use more images"
            )
        self.total_steps = spec.epochs * self.steps_per_epoch
        self.step = 0
        self.rows: list[Row] = []
        self.measured: list[Row] = []
        self.seconds_before = 0.0
        self.begun = time.monotonic()
        self._check_shares()

    def _check_shares(self) -> None:
        """Every batch must fall into equal parts, or the mean over processes is another loss."""
        parts = world_size() * self.spec.micro_batches
        if self.spec.batch_size % parts:
            raise TrainingError(
                f"a batch of {self.spec.batch_size} images cannot be split equally over "
                f"{world_size()} processes with {self.spec.micro_batches} micro-batches each: use "
                f"a batch_size that is a multiple of {parts}"
            )
        if self.spec.micro_batches > 1 and rank() == 0:
            print(
                f"each batch of {self.spec.batch_size} is worked through in parts of "
                f"{self.spec.batch_size // self.spec.micro_batches}: batch normalisation, loss and "
                "criterion are of a part, which is not the step of the whole batch",
                file=sys.stderr,
            )

    def views(self) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Indices and views of every micro-batch from the present step to the last one."""
        return self._shown(self._batches)

    def _shown(
        self, batches: Callable[[], Iterator[Batch]]
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        # two passes over the batches: the images may be read ahead
        views = self.images.views(batches(), self.spec.views, self.spec.normalisation, self.device)
        return zip((batch.local_indices for batch in batches()), views, strict=True)

    def _all_images(self, epoch: int) -> Iterator[Batch]:
        """Every image once, this rank's share of it, in parts no larger than a micro-batch."""
        count = -(-len(self.images) * self.spec.micro_batches // self.spec.batch_size)
        for number, indices in enumerate(torch.arange(len(self.images)).tensor_split(count)):
            share = [len(indices) * r // world_size() for r in (rank(), rank() + 1)]
            yield Batch(indices, self._seed(epoch, -1, number), slice(*share))

    def _batches(self) -> Iterator[Batch]:
        parts = world_size() * self.spec.micro_batches
        for step in range(self.step, self.total_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if step == self.step or position == 0:
                order = torch.randperm(
                    len(self.images), generator=torch.Generator().manual_seed(self._seed(epoch, 0))
                )
            indices = order[position * self.spec.batch_size :][: self.spec.batch_size]
            # an epoch's last batch gets equal parts with its first images, as torch's
            # DistributedSampler does
            missing = -len(indices) % math.lcm(parts, self.spec.augmentation_streams)
            indices = torch.cat([indices, order[:missing]])
            size = len(indices) // parts
            for part in range(parts)[rank() * self.spec.micro_batches :][: self.spec.micro_batches]:
                yield Batch(
                    indices,
                    self._seed(epoch, 1 + position),
                    slice(part * size, (part + 1) * size),
                    self.spec.augmentation_streams,
                )

    def _seed(self, *position: int) -> int:
        """One of its own for every (seed, position): nothing to save, nothing to restore."""
        return int(fingerprint({"seed": self.spec.seed, "position": position}), 16)

    def advance(
        self, views: Iterator[tuple[Tensor, list[Tensor]]]
    ) -> tuple[bool, dict[str, Tensor]]:
        """One optimizer step; returns whether to stop, and the loss and its terms."""
        epoch, position = divmod(self.step, self.steps_per_epoch)
        if position == 0:
            self.method.begin_epoch(
                torch.Generator().manual_seed(self._seed(epoch, -1)),
                lambda: self._shown(lambda: self._all_images(epoch)),
            )
        for group, rate in zip(self.optimizer.param_groups, self.initial_rates, strict=True):
            group["lr"] = rate
            if group.get("name") not in self.spec.optimizer.group_lr:
                group["lr"] *= learning_rate_factor(
                    self.spec.schedule, self.step, self.steps_per_epoch, self.spec.epochs
                )
        self.optimizer.zero_grad(set_to_none=True)
        parts = []
        try:
            for last in [False] * (self.spec.micro_batches - 1) + [True]:
                with contextlib.nullcontext() if last else self._without_exchange():
                    indices, batch = next(views)
                    self.method.begin_step(indices)
                    loss, terms = self._losses(batch)
                    self.scaler.scale(loss / self.spec.micro_batches).backward()
                parts.append({"loss": loss.detach()} | terms)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the GPU's memory does not suffice for {self._share()} images at a time: use more "
                f"GPUs, a smaller batch_size, or micro_batches: {2 * self.spec.micro_batches}, "
                "which changes the batch statistics"
            ) from error
        stop, terms = self._agree(
            {key: torch.stack([part[key].float() for part in parts]).mean() for key in parts[0]}
        )
        self._check_finite(terms)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.end_step(self.step / self.total_steps)
        self.step += 1
        return stop, terms

    def _losses(self, views: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with gradient, and its terms."""
        kind = torch.device(self.device).type
        half = self.spec.precision != "float32"
        with torch.autocast(kind, getattr(torch, self.spec.precision) if half else None, half):
            output = self.forward(views)
        loss = output.loss
        terms = dict(output.terms)
        if self.criterion is not None and self.spec.criterion is not None:
            wanted = output.embeddings
            if self.criterion.views == "global":
                wanted = wanted[: self.method.global_views]
            added = self.criterion(*wanted)
            loss = loss + added.loss
            name = self.spec.criterion.name
            terms |= {f"{name}/{key}": term for key, term in added.terms.items()}
        terms["embedding_std"] = output.embeddings[0].detach().float().std(dim=0).mean()
        return loss, terms

    def _without_exchange(self) -> contextlib.AbstractContextManager:
        """Gradients stay on their rank until the last micro-batch."""
        if isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _share(self) -> int:
        return self.spec.batch_size // (world_size() * self.spec.micro_batches)

    def _agree(self, terms: dict[str, Tensor]) -> tuple[bool, dict[str, Tensor]]:
        """Whether any rank was asked to stop, and the mean of each term over the ranks."""
        wish = interruption.requested()
        if world_size() == 1:
            return wish, terms
        values = torch.stack([*terms.values(), torch.tensor(float(wish), device=self.device)])
        dist.all_reduce(values)
        means = (values[:-1] / world_size()).unbind()
        return bool(values[-1] > 0), dict(zip(terms, means, strict=True))

    def _check_finite(self, terms: dict[str, Tensor]) -> None:
        if not torch.isfinite(terms["loss"]):
            found = ", ".join(f"{k} = {float(v):g}" for k, v in terms.items() if k != "loss")
            raise TrainingError(
                f"the loss is {terms['loss'].item()} at step {self.step} of {self.total_steps} "
                f"({found}): lower the learning rate or the criterion's weights; nothing was "
                "written"
            )

    def log(self, terms: dict[str, Tensor]) -> Row:
        """The row of this step; its "seconds" are those of all attempts together."""
        row: Row = {"step": self.step}
        row |= {name: float(value) for name, value in terms.items()}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        row["seconds"] = round(self.seconds_before + time.monotonic() - self.begun, 3)
        self.rows.append(row)
        return row

    def measure(self, measure: Measure | None) -> None:
        """One row after each epoch, and one before the first."""
        if measure is not None:
            epoch = self.step // self.steps_per_epoch
            self.measured.append({"epoch": epoch, **measure(self.method)})

    def _identity(self) -> str:
        start = None if self.start is None else self.start.provenance
        return fingerprint({"spec": asdict(self.spec), "images": len(self.images), "start": start})

    def _state_identity(self) -> str:
        return fingerprint({"run": self._identity(), "caller": self.identity})

    def save(self, path: Path) -> None:
        """Every rank calls this; the first one writes."""
        own = self.method.state_dict()
        own_state = {key: own[key].cpu() for key in self.method.run_state}
        of_ranks = [own_state] * world_size()
        if world_size() > 1 and own_state:
            dist.all_gather_object(of_ranks, own_state)
        state = {
            "identity": self._state_identity(),
            "processes": world_size(),
            "step": self.step,
            "rows": self.rows,
            "measured": self.measured,
            "method": own,
            "run_state_of_ranks": of_ranks,
            "criterion": None if self.criterion is None else self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if rank() == 0:
            save_atomically(state, path)

    def resume(self, path: Path) -> None:
        """Goes back to a saved state, if there is one of the very same run."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["identity"] != self._state_identity():
            return
        if state["processes"] != world_size():
            raise TrainingError(
                f"{path} was written by {state['processes']} processes, this run has "
                f"{world_size()}: use as many again, or delete the file to begin anew"
            )
        self.method.load_state_dict(state["method"] | state["run_state_of_ranks"][rank()])
        if self.criterion is not None:
            self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.rows, self.measured = state["step"], state["rows"], state["measured"]
        self.seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0

    def save_checkpoint(self, path: Path) -> None:
        """Every rank calls this and leaves when the file is there."""
        if rank() == 0:
            self._checkpoint().save(path)
        if world_size() > 1:
            dist.barrier()

    def _checkpoint(self) -> Checkpoint:
        before = 0 if self.start is None else self.start.epochs
        return Checkpoint(
            backbone=self.spec.backbone,
            in_channels=self.images.channels,
            method=self.spec.method.name,
            method_params=self.spec.method.params,
            model={
                key: value.cpu()
                for key, value in self.method.state_dict().items()
                if key not in self.method.run_state
            },
            epochs=before + self.spec.epochs,
            optimizer=self.optimizer.state_dict() if self.spec.keep_optimizer else None,
            provenance={"identity": self._identity(), "torch": str(torch.__version__)}
            | ({} if self.start is None else {"start": self.start.provenance}),
        )
