"""Semi-supervised fine-tuning: the whole network on a share of the labels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2mc.data.images import ImageSet
from e2mc.data.views import Draws, Normalisation, ViewRecipe, plain_view, random_views
from e2mc.evaluation.linear import schedule_factor
from e2mc.evaluation.metrics import score, topk_accuracy


@dataclass(frozen=True)
class FineTuneProtocol:
    """How the network is fine-tuned; the defaults are the published protocol's.

    SGD without Nesterov on cross-entropy, in two groups, trunk and linear head, each with its own
    learning rate. Training views are random resized crops, perhaps mirrored.

    Args:
        schedule: of both rates per epoch, "cosine" to 0, or "step": times ``gamma`` at ``steps``.
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
            raise ValueError(f"batch_size must be at least 2, found {self.batch_size}")
        for name in ("epochs", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("trunk_lr", "head_lr", "weight_decay", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), found {self.momentum}")
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"schedule must be 'cosine' or 'step', found {self.schedule!r}")
        self.views(size=1)  # checks crop_scale and flip

    def views(self, size: int) -> ViewRecipe:
        """Training views of ``size`` pixels."""
        return ViewRecipe(size=size, crop_scale=self.crop_scale, flip=self.flip)


def fine_tune(
    backbone: nn.Module,
    train: ImageSet,
    subset: Tensor,
    validation: ImageSet,
    test: ImageSet,
    *,
    protocol: FineTuneProtocol,
    normalisation: Normalisation,
    size: int,
    seed: int,
    device: str | torch.device = "cpu",
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains a copy of the backbone and a fresh linear head on the images ``subset``.

    Args:
        backbone: module (N, C, H, W) -> (N, backbone.feature_dim); it is not changed.
        train: images with class numbers; only those at ``subset`` (int64) are used.
        validation: decides which epoch is the best.
        test: is only scored.
        protocol: how to train.
        normalisation: mean and standard deviation per channel.
        size: side of the views, in training and testing.
        seed: of the head, the order and the views.
        device: where to train.

    Returns:
        Scores (top1, and top5 with more than 5 classes, in percent; selections last and best;
        splits test and validation), and details: number of labels, best epoch, training loss per
        epoch.

    Raises:
        ValueError: when the loss is not finite, or there are fewer than two images.

    Source: eval_semisup.py of SwAV (Caron et al. 2020).
    """
    if len(subset) < 2:
        raise ValueError(f"fine-tuning needs at least 2 labelled images, found {len(subset)}")
    generator = torch.Generator().manual_seed(seed)
    trunk = copy.deepcopy(backbone).requires_grad_()
    classes = len(train.classes)
    head = _linear_head(trunk.feature_dim, classes, generator)
    model = nn.Sequential(trunk, head).to(device)
    rates = (protocol.trunk_lr, protocol.head_lr)
    optimizer = torch.optim.SGD(
        [{"params": part.parameters(), "lr": lr} for part, lr in zip(model, rates, strict=True)],
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )
    best, best_epoch, best_state, losses = -1.0, 0, {}, []
    for epoch in range(protocol.epochs):
        factor = schedule_factor(
            protocol.schedule, epoch, protocol.epochs, protocol.steps, protocol.gamma
        )
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr * factor
        order = subset[torch.randperm(len(subset), generator=generator)]
        loss = _train_epoch(
            model, train, order, optimizer, protocol, normalisation, size, generator, device
        )
        if not loss < float("inf"):
            raise ValueError(
                f"the fine-tuning loss is {loss} in epoch {epoch + 1}: use smaller trunk_lr and "
                f"head_lr than {protocol.trunk_lr:g} and {protocol.head_lr:g}"
            )
        losses.append(round(loss, 4))
        last = epoch + 1 == protocol.epochs
        if last or (epoch + 1) % protocol.validate_every == 0:
            logits = _predict(model, validation, normalisation, size, device)
            accuracy = topk_accuracy(logits, validation.labels)
            if accuracy > best:
                best, best_epoch = accuracy, epoch + 1
                best_logits = logits
                best_state = {} if last else copy.deepcopy(model.state_dict())
    predictions = {
        ("last", "validation"): logits,
        ("last", "test"): _predict(model, test, normalisation, size, device),
        ("best", "validation"): best_logits,
    }
    predictions["best", "test"] = predictions["last", "test"]
    if best_state:
        model.load_state_dict(best_state)
        predictions["best", "test"] = _predict(model, test, normalisation, size, device)
    labels = {"validation": validation.labels, "test": test.labels}
    scores = [
        score(
            f"top{k}",
            topk_accuracy(values, labels[split], k),
            split=split,
            selection=selection,
            probe_seed=seed,
        )
        for (selection, split), values in predictions.items()
        for k in ((1, 5) if classes > 5 else (1,))
    ]
    return scores, {"labels": len(subset), "best_epoch": best_epoch, "training_loss": losses}


def _linear_head(dim: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """PyTorch's default initialisation, from the generator."""
    head = nn.Linear(dim, classes)
    bound = dim**-0.5
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return head


def _train_epoch(
    model: nn.Module,
    train: ImageSet,
    order: Tensor,
    optimizer: torch.optim.Optimizer,
    protocol: FineTuneProtocol,
    normalisation: Normalisation,
    size: int,
    generator: torch.Generator,
    device: str | torch.device,
) -> float:
    """One pass over the images in ``order``; returns their mean loss."""
    model.train()
    recipe = protocol.views(size)
    total, seen = 0.0, 0
    for batch in order.split(protocol.batch_size):
        if len(batch) == 1:
            continue  # batch normalisation cannot train on one image
        images = train.images[batch].to(device)
        draws = Draws.of(recipe, len(batch), images.shape[1], generator)
        views = random_views(images, recipe, normalisation, draws)
        loss = F.cross_entropy(model(views), train.labels[batch].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
        seen += len(batch)
    return total / seen


@torch.no_grad()
def _predict(
    model: nn.Module,
    images: ImageSet,
    normalisation: Normalisation,
    size: int,
    device: str | torch.device,
) -> Tensor:
    """Logits (N, K) of all images as they are, on the CPU."""
    model.eval()
    return torch.cat(
        [
            model(plain_view(batch.to(device), normalisation, size)).float().cpu()
            for batch in images.images.split(256)
        ]
    )


__all__ = ["FineTuneProtocol", "fine_tune"]
