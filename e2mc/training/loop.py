"""Pre-training and continued pre-training: the same loop, with or without add-on criteria.

Every random draw is a function of (seed, epoch, step), so a run that was killed and resumed from
its last state makes the same weights as one that was not, bit for bit on a CPU. On several
processes (torch.distributed, set up by the caller) each one has an equal part of every batch, and
the step is that of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.criteria import create_criterion
from e2mc.data.source import Batch, ImageSource
from e2mc.distributed import rank, world_size
from e2mc.methods import Method, MethodOutput, create_method
from e2mc.methods.base import trainable
from e2mc.models import create_backbone
from e2mc.optim import create_optimizer, learning_rate_factor
from e2mc.progress import Interrupted, Progress, stop_requested
from e2mc.state import fingerprint, save_atomically, write_text
from e2mc.task import plain
from e2mc.training.batch_norm import synchronise_batch_norm
from e2mc.training.batches import BatchOrder
from e2mc.training.logs import Row, beside, csv_text, open_loggers
from e2mc.training.spec import TrainingError, TrainingSpec

Measure = Callable[[Method], dict[str, float]]


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
    quiet: bool = False,
    measure: Measure | None = None,
    identity: str | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> None:
    """Trains and writes ``output`` (a checkpoint) and, beside it, ``training.csv`` (every term).

    What lies beside ``checkpoint.pt`` has these names; beside another output it has that one's name
    in front, ``a-training.csv`` for ``a.pt``, so that runs may share a folder.

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
        quiet: say nothing of how far the run is.
        measure: what to measure of the method before the first epoch and after each one, without
            changing it; written to ``information.csv`` beside the checkpoint.
        identity: what else decides the run, e.g. which images they are and the version of the code;
            a state that was saved with another one is not resumed. Not part of the checkpoint.
        made_by: what the checkpoint says of how it was made, in plain values; None: the spec.

    Raises:
        Interrupted: when ``e2mc.progress`` asked to stop, after the state was saved.
        TrainingError: when the loss is not finite, there are fewer images than one batch, the
            processes cannot share a batch equally, or the GPU's memory does not suffice.
        CheckpointError: when the weights of ``start`` do not fit the method.
    """
    output = Path(output)
    run = _Training(spec, images, start, device, identity)
    state_path = output.with_name(output.name + ".state")
    run.resume(state_path)
    writes, total = rank() == 0, run.order.total_steps
    says = writes and not quiet
    if says and spec.micro_batches > 1:
        print(
            f"each batch of {spec.batch_size} is worked through in parts of "
            f"{spec.batch_size // spec.micro_batches}: batch normalisation, loss and "
            "criterion are of a part, which is not the step of the whole batch",
            file=sys.stderr,
        )
    fresh = [] if start is None else start.provenance.get("fresh", [])
    if says and fresh and not spec.head_warmup_epochs:
        print(
            f"the weights of {' and '.join(fresh)} are fresh, and will pull the features to "
            "wherever they happen to point: head_warmup_epochs in the recipe lets them learn "
            "first, and method anchor needs none",
            file=sys.stderr,
        )
    progress = Progress(
        what, total, done=run.step, unit="images", per_step=spec.batch_size, show=says
    )
    views = run.views()
    if run.step == 0:
        run.measure(measure)
    names = loggers if writes else ()
    with open_loggers(names, output, what=what, done=run.step, spec=asdict(spec)) as log:
        while run.step < total:
            stop, terms = run.advance(views)
            if run.step % run.order.steps_per_epoch == 0:
                run.measure(measure)
            if run.step % log_every == 0 or run.step == total:
                log(run.log(terms))
            unfinished = run.step < total
            if unfinished and (stop or run.step % state_every == 0):
                run.save(state_path)
            progress.step()
            if unfinished and stop:
                raise Interrupted(
                    f"{what} was asked to stop and did after step {run.step} of {total}; its "
                    f"state is in {state_path}, and the same command goes on from there"
                )
    run.save_checkpoint(output, made_by)
    if writes:
        write_text(csv_text(run.rows), beside(output, "training.csv"))
        if run.measured:
            write_text(csv_text(run.measured), beside(output, "information.csv"))
        state_path.unlink(missing_ok=True)


def first_outputs(
    spec: TrainingSpec,
    images: ImageSource,
    start: Checkpoint | None,
    *,
    batches: int,
    device: str = "cpu",
) -> Iterator[tuple[Method, MethodOutput]]:
    """What the method gives on the first batches of a run, of which no step is taken.

    Args:
        spec, images, start, device: as for ``pretrain``.
        batches: how many, or those of the run if there are fewer.
    """
    run = _Training(spec, images, start, device)
    run.begin_epoch(0)
    for indices, views in itertools.islice(run.views(), batches):
        run.method.begin_step(indices)
        yield run.method, run.method(views)


class _Training:
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
        self.order = BatchOrder(spec, len(images))
        self.method = self._create_method()
        self.forward = self._distribute()
        self.criteria = nn.ModuleList(create_criterion(c.name, **c.params) for c in spec.criteria)
        self.criteria.to(device)
        self.optimizer = self._create_optimizer()
        self.initial_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(
            torch.device(device).type, enabled=spec.precision == "float16"
        )
        self.step = 0
        self.rows: list[Row] = []
        self.measured: list[Row] = []
        self.seconds_before = 0.0
        self.begun = time.monotonic()

    def _create_method(self) -> Method:
        """The method with the weights of the start, or with random ones."""
        spec = self.spec
        torch.manual_seed(spec.seed)
        backbone = create_backbone(spec.backbone, self.images.channels)
        method = create_method(spec.method.name, backbone, **spec.method.params)
        method.begin_run(len(self.images))
        if self.start is not None:
            self.start.load_into(method)
        method.to(self.device).to(memory_format=torch.channels_last).train()
        if spec.compile:
            method.backbone.compile(dynamic=False)
        return method

    def _distribute(self) -> nn.Module:
        """What a step calls: the method, whose gradients are summed over the ranks."""
        if world_size() == 1:
            return self.method
        synchronise_batch_norm(self.method)
        # Else parameters are sorted into new buckets after the first step, also the first of a
        # resumed run, and gloo sums four ranks in another order: not the same bit by bit.
        fixed = torch.device(self.device).type == "cpu"
        return DistributedDataParallel(self.method, find_unused_parameters=fixed)

    def _create_optimizer(self) -> torch.optim.Optimizer:
        """Over the method, with the state of the start if asked for, then over the criteria."""
        optimizer = create_optimizer(self.spec.optimizer, self.method.parameter_groups())
        if self.spec.restore_optimizer and self.start is not None:
            settings = [dict(group, params=None) for group in optimizer.param_groups]
            optimizer.load_state_dict(self.start.optimizer_state())
            for group, setting in zip(optimizer.param_groups, settings, strict=True):
                group.update(setting, params=group["params"])
        if trainable(self.criteria):
            optimizer.add_param_group({"name": "criterion", "params": trainable(self.criteria)})
        return optimizer

    def views(self) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Indices and views of every micro-batch from the present step to the last one."""
        return self._shown(lambda: self.order.from_step(self.step))

    def _shown(
        self, batches: Callable[[], Iterator[Batch]]
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        # two passes over the batches: the images may be read ahead
        views = self.images.views(batches(), self.spec.views, self.spec.normalisation, self.device)
        return zip((batch.local_indices for batch in batches()), views, strict=True)

    def advance(
        self, views: Iterator[tuple[Tensor, list[Tensor]]]
    ) -> tuple[bool, dict[str, Tensor]]:
        """One optimizer step; returns whether to stop, and the loss and its terms."""
        epoch, position = divmod(self.step, self.order.steps_per_epoch)
        if self.spec.head_warmup_epochs:
            self.method.backbone.train(not self.warming_up)
        if position == 0:
            self.begin_epoch(epoch)
        for group, rate in zip(self.optimizer.param_groups, self.initial_rates, strict=True):
            group["lr"] = rate
            if group.get("name") not in self.spec.optimizer.group_lr:
                group["lr"] *= learning_rate_factor(
                    self.spec.schedule,
                    self.step,
                    self.order.steps_per_epoch,
                    self.order.total_steps,
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
                f"the GPU's memory does not suffice for {self.order.part} images at a time: use "
                "more GPUs, a smaller batch_size, or micro_batches: "
                f"{2 * self.spec.micro_batches}, which changes the batch statistics"
            ) from error
        stop, terms = self._agree(
            {key: torch.stack([part[key].float() for part in parts]).mean() for key in parts[0]}
        )
        self._check_finite(terms)
        if self.warming_up:  # gradients are dropped: every rank must have made them
            for parameter in self.method.backbone.parameters():
                parameter.grad = None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.end_step(self.step / self.order.total_steps)
        self.step += 1
        return stop, terms

    def begin_epoch(self, epoch: int) -> None:
        """What the method does once an epoch."""
        self.method.begin_epoch(
            torch.Generator().manual_seed(self.order.seed(epoch, -1)),
            lambda: self._shown(lambda: self.order.all_images(epoch)),
        )

    @property
    def warming_up(self) -> bool:
        """Whether the heads learn and the backbone rests."""
        return self.step < self.spec.head_warmup_epochs * self.order.steps_per_epoch

    def _losses(self, views: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with gradient, and its terms."""
        kind = torch.device(self.device).type
        half = self.spec.precision != "float32"
        with torch.autocast(kind, getattr(torch, self.spec.precision) if half else None, half):
            output = self.forward(views)
        loss = output.loss
        terms = dict(output.terms)
        for component, criterion in zip(self.spec.criteria, self.criteria, strict=True):
            wanted = output.embeddings
            if criterion.views == "global":
                wanted = wanted[: self.method.global_views]
            added = criterion(*wanted)
            if not self.warming_up:
                loss = loss + added.loss
            terms |= {f"{component.name}/{key}": term for key, term in added.terms.items()}
        terms["embedding_std"] = output.embeddings[0].detach().float().std(dim=0).mean()
        return loss, terms

    def _without_exchange(self) -> contextlib.AbstractContextManager:
        """Gradients stay on their rank until the last micro-batch."""
        if isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _agree(self, terms: dict[str, Tensor]) -> tuple[bool, dict[str, Tensor]]:
        """Whether any rank was asked to stop, and the mean of each term over the ranks."""
        wish = stop_requested()
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
                f"the loss is {terms['loss'].item()} at step {self.step} of "
                f"{self.order.total_steps} ({found}): lower the learning rate or the criterion's "
                "weights; nothing was written"
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
            epoch = self.step // self.order.steps_per_epoch
            self.measured.append({"epoch": epoch, **measure(self.method)})

    def _state_identity(self) -> str:
        start = None if self.start is None else self.start.provenance
        run = {"spec": self.spec.values(), "images": len(self.images), "start": start}
        return fingerprint({"run": run, "caller": self.identity})

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
            "criteria": self.criteria.state_dict(),
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
        self.criteria.load_state_dict(state["criteria"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.rows, self.measured = state["step"], state["rows"], state["measured"]
        self.seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0

    def save_checkpoint(self, path: Path, made_by: Mapping[str, Any] | None) -> None:
        """Every rank calls this and leaves when the file is there."""
        if rank() == 0:
            self._checkpoint(made_by or {"spec": plain(self.spec)}).save(path)
        if world_size() > 1:
            dist.barrier()

    def _checkpoint(self, made_by: Mapping[str, Any]) -> Checkpoint:
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
            epochs=before + self.order.epochs,
            optimizer=self.optimizer.state_dict() if self.spec.keep_optimizer else None,
            provenance={**made_by, "torch": str(torch.__version__)}
            | ({} if self.start is None else {"start": self.start.provenance}),
        )
