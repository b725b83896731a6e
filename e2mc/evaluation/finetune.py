"""Semi-supervised fine-tuning: the whole network on a share of the labels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2mc.data.files import ImageFiles
from e2mc.data.source import LabelledSource
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.errors import InputError, MachineError, expect_default
from e2mc.evaluation.epochs import EpochState, interruption_point
from e2mc.evaluation.features import epoch_batches
from e2mc.evaluation.heads import WITHOUT_STEPS, schedule_factor
from e2mc.evaluation.metrics import score, topk_accuracy
from e2mc.evaluation.paradigm import Counts, Found, Labelled, Work
from e2mc.evaluation.seeds import FIRST, EvaluationSeed
from e2mc.evaluation.subject import Subject
from e2mc.models.backbone import Backbone
from e2mc.optim import OPTIMIZERS
from e2mc.progress import Progress


@dataclass(frozen=True)
class FineTuneProtocol:
    """How the network is fine-tuned; the defaults are the published protocol's.

    SGD without Nesterov on cross-entropy, in two groups, trunk and linear head, each with its own
    learning rate. Training views are random resized crops, perhaps mirrored.

    Args:
        schedule: of both rates per epoch, "cosine" to 0, or "step": times ``gamma`` at ``steps``;
            a cosine refuses them.
        crop_scale: share of the image's area in a crop (smallest, largest).
        flip: probability of a horizontal flip.
        validate_every: epochs between looks at the validation split, for the best epoch; the last
            epoch always counts.
    """

    epochs: int = 20
    batch_size: int = 256
    trunk_lr: float = 0.01
    head_lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step"] = "cosine"
    steps: tuple[int, ...] = (12, 16)
    gamma: float = 0.2
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    validate_every: int = 1

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2, found {self.batch_size}")
        for name in ("epochs", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("trunk_lr", "head_lr", "weight_decay", "gamma"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, found {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), found {self.momentum}")
        if self.schedule not in ("cosine", "step"):
            raise InputError(f"schedule must be 'cosine' or 'step', found {self.schedule!r}")
        if self.schedule == "cosine":
            expect_default(self, ["steps", "gamma"], WITHOUT_STEPS)
        self.views(size=1)  # checks crop_scale and flip

    def views(self, size: int) -> ViewRecipe:
        """Training views of ``size`` pixels."""
        return ViewRecipe(size=size, crop_scale=self.crop_scale, flip=self.flip)


@dataclass(frozen=True, kw_only=True)
class FineTune(Labelled):
    """Trains the whole network on a share of the labels."""

    job: ClassVar[str] = "evaluate_fine_tuned"
    metric: ClassVar[str] = "top1"
    stage: ClassVar[str] = "fine-tuning"
    selects_epochs: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    frozen: ClassVar[bool] = False

    kind: Literal["finetune"] = "finetune"
    protocol: FineTuneProtocol

    def check(self, data: Counts) -> None:
        super().check(data)
        if data.train is not None and self.labelled(data) < 2:
            raise InputError(
                f"label_list: {self.labelled(data)} image has a label, fine-tuning needs 2: use a "
                "longer list"
            )

    def work(self, data: Counts) -> Work:
        assert data.held_out is not None, "the study does not say how many images there are"
        times = len(self.label_seeds) * self.protocol.epochs
        looks = len(self.label_seeds) * (self.protocol.epochs // self.protocol.validate_every)
        return Work(trained=times * self.labelled(data), looked_at=looks * data.held_out)

    def score(self, subject: Subject, name: str) -> Found:
        data = subject.splits(self.dataset)
        scores: list[dict[str, Any]] = []
        details: dict[str, Any] = {}
        for seed, subset in self.subsets(data).items():
            # what is in memory takes seconds
            on_disk = isinstance(data.train, ImageFiles)
            found, details[str(seed)] = fine_tune(
                subject.backbone,
                data.train,
                subset,
                data.validation,
                data.test,
                protocol=self.protocol,
                normalisation=subject.datasets[self.dataset].normalisation,
                view=subject.datasets[self.dataset].view,
                seed=seed,
                evaluation_seed=subject.seed,
                device=subject.device,
                state=subject.state(f"{name}-{seed}") if on_disk else None,
                what=f"{subject.what} {name}",
            )
            scores += found
        return Found(scores, details)


def fine_tune(
    backbone: Backbone,
    train: LabelledSource,
    subset: Tensor,
    validation: LabelledSource,
    test: LabelledSource,
    *,
    protocol: FineTuneProtocol,
    normalisation: Normalisation,
    view: PlainView,
    seed: int,
    evaluation_seed: EvaluationSeed = FIRST,
    device: str | torch.device = "cpu",
    state: EpochState | None = None,
    what: str = "fine-tuning",
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains a copy of the backbone and a fresh linear head on the images ``subset``.

    Args:
        backbone: module (N, C, H, W) -> (N, backbone.feature_dim); it is not changed.
        train: images with class numbers; only those at ``subset`` (int64) are used.
        validation: decides which epoch is the best; without images the test images do, as in the
            papers.
        test: is only scored.
        protocol: how to train.
        normalisation: mean and standard deviation per channel.
        view: how images are resized when they are scored; its size is also that of the views.
        seed: of the labels, under which the scores are.
        evaluation_seed: with ``seed`` it decides the head, the order and the views.
        device: where to train.
        state: where the state is kept after every epoch; a later call goes on from it.
        what: name in the progress display, which is shown where a state is kept.

    Returns:
        Scores (top1, and top5 with more than 5 classes, in percent; selections last and best;
        splits test and validation), and details: number of labels, best epoch, training loss per
        epoch.

    Raises:
        ValueError: when the loss is not finite, or there are fewer than two images.
        RuntimeError: when the GPU has too little memory, with the batch size to try.
        Interrupted: when a stop was asked for; what was done since the last state is lost.

    Source: eval_semisup.py of SwAV (Caron et al. 2020).
    """
    if len(subset) < 2:
        raise InputError(f"fine-tuning needs at least 2 labelled images, found {len(subset)}")
    seeds = evaluation_seed.of(seed), evaluation_seed.order_of(seed)
    run = _Training(backbone, len(train.classes), protocol, normalisation, view, seeds, device)
    splits = {"test": test} | ({"validation": validation} if len(validation) else {})
    chooses = "validation" if len(validation) else "test"
    if state is not None and (found := state.load()) is not None:
        run.load_state_dict(found)
    progress = None
    if state is not None:
        progress = Progress(what, protocol.epochs, done=run.epoch, unit="epochs")
    known: dict[str, Tensor] = {}  # logits of the model as it is
    while run.epoch < protocol.epochs:
        run.train_epoch(train, subset, what)
        if run.epoch % protocol.validate_every == 0 or run.epoch == protocol.epochs:
            known = {chooses: run.validate(splits[chooses])}
        if state is not None and progress is not None:
            state.save(run.state_dict())
            progress.step()
    scores = []
    for selection in ("last", "best"):
        if selection == "best" and run.best_model is not None:
            run.model.load_state_dict(run.best_model)
            known = {}
        for split, images in splits.items():
            if split not in known:
                known[split] = run.predict(images)
            for k in (1, 5) if len(train.classes) > 5 else (1,):
                value = topk_accuracy(known[split], images.labels, k)
                where: Any = {"split": split, "selection": selection, "probe_seed": seed}
                scores.append(score(f"top{k}", value, **where))
    return scores, {
        "labels": len(subset),
        "best_epoch": run.best_epoch,
        "best_epoch_chosen_on": chooses,
        "training_loss": run.losses,
    }


class _Training:
    """The network that is fine-tuned, and where it stands."""

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        protocol: FineTuneProtocol,
        normalisation: Normalisation,
        view: PlainView,
        seeds: tuple[int, int],
        device: str | torch.device,
    ) -> None:
        self.protocol, self.normalisation, self.view = protocol, normalisation, view
        (self.seed, self.order_seed), self.device = seeds, device
        trunk = copy.deepcopy(backbone).requires_grad_()
        head = _linear_head(trunk.feature_dim, classes, torch.Generator().manual_seed(self.seed))
        self.model = nn.Sequential(trunk, head).to(device)
        self.rates = (protocol.trunk_lr, protocol.head_lr)
        groups = [
            {"params": part.parameters(), "lr": lr}
            for part, lr in zip(self.model, self.rates, strict=True)
        ]
        self.optimizer = OPTIMIZERS["sgd"](
            groups, momentum=protocol.momentum, weight_decay=protocol.weight_decay
        )
        self.epoch = 0
        self.losses: list[float] = []
        self.best, self.best_epoch = -1.0, 0
        self.best_model: dict[str, Tensor] | None = None  # None: the model as it is

    def train_epoch(self, train: LabelledSource, subset: Tensor, what: str) -> None:
        """One pass over the images ``subset`` in a new order."""
        protocol = self.protocol
        factor = schedule_factor(
            protocol.schedule, self.epoch, protocol.epochs, protocol.steps, protocol.gamma
        )
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * factor
        batches = epoch_batches(subset, protocol.batch_size, self.seed, self.epoch, self.order_seed)
        # batch normalisation cannot train on one image
        batches = [batch for batch in batches if len(batch.indices) > 1]
        recipe = protocol.views(self.view.size)
        self.model.train()
        total, seen = torch.zeros((), device=self.device), 0
        views = train.views(batches, (recipe,), self.normalisation, self.device)
        for batch, [images] in zip(batches, views, strict=True):
            interruption_point(what)
            labels = train.labels[batch.indices].to(self.device)
            try:
                loss = F.cross_entropy(self.model(images), labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            except torch.OutOfMemoryError as error:
                raise MachineError(
                    f"the GPU has no memory left to fine-tune on {len(images)} images at once: try "
                    f"batch_size: {protocol.batch_size // 2}, and the learning rates in proportion "
                    f"({str(error).splitlines()[0]})"
                ) from None
            total += loss.detach() * len(images)
            seen += len(images)
        mean = total.item() / seen
        if not mean < float("inf"):
            raise InputError(
                f"the fine-tuning loss is {mean} in epoch {self.epoch + 1}: use smaller trunk_lr "
                f"and head_lr than {self.rates[0]:g} and {self.rates[1]:g}"
            )
        self.losses.append(round(mean, 4))
        self.epoch += 1

    def validate(self, images: LabelledSource) -> Tensor:
        """Keeps the model if it is the best so far; returns its logits."""
        logits = self.predict(images)
        accuracy = topk_accuracy(logits, images.labels)
        if accuracy > self.best:
            self.best, self.best_epoch = accuracy, self.epoch
            last = self.epoch == self.protocol.epochs
            self.best_model = None if last else copy.deepcopy(self.model.state_dict())
        return logits

    @torch.no_grad()
    def predict(self, images: LabelledSource) -> Tensor:
        """Logits (N, K) of all images without anything random, on the CPU."""
        self.model.eval()
        views = images.plain_views(self.view, self.normalisation, self.device, 256)
        return torch.cat([self.model(batch).float().cpu() for batch in views])

    def state_dict(self) -> dict[str, Any]:
        """Between two epochs."""
        return {
            "epoch": self.epoch,
            "losses": self.losses,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_model": self.best_model,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("epoch", "losses", "best", "best_epoch", "best_model"):
            setattr(self, name, state[name])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def _linear_head(dim: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """PyTorch's default initialisation, from the generator."""
    head = nn.Linear(dim, classes)
    bound = dim**-0.5
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return head
