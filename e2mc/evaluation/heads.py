"""Softmax regressions by SGD, many side by side.

All learning rates and all label subsets of one size are trained together: their weights are one
tensor, and one batched matrix product serves every head. The gradient of the cross-entropy is
softmax - onehot, so no graph is built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.errors import InputError, expect_default


@dataclass(frozen=True)
class LinearProtocol:
    """How linear heads are trained; the defaults are the published protocol's.

    SGD with momentum, not Nesterov; the weight decay holds for the bias too; the last, smaller
    batch of an epoch is used.

    Args:
        optimizer: "sgd", or "lars": SGD behind the layer-wise rate control of ``larc``, with one
            rate for the weights of a head and one for its biases.
        learning_rates: one head each, and the validation split chooses. Few labels need a wide
            grid: the number of steps is small, and the rate is then the regulariser.
        schedule: per epoch, "cosine" to 0 or "step", times ``gamma`` at each epoch of ``steps``;
            a cosine refuses them.
        init_std: of the normal weights; biases begin at 0.
        batch_norm: the features pass a batch normalisation, with a scale and shift per channel that
            are trained and decayed like the rest, before the head.
        validate_every: epochs between looks at the validation split, for the best epoch; the last
            epoch always counts.
    """

    optimizer: Literal["sgd", "lars"] = "sgd"
    epochs: int = 100
    batch_size: int = 256
    learning_rates: tuple[float, ...] = (0.3,)
    weight_decay: float = 1e-6
    momentum: float = 0.9
    schedule: Literal["cosine", "step"] = "cosine"
    steps: tuple[int, ...] = (24, 48, 72)
    gamma: float = 0.1
    init_std: float = 0.01
    batch_norm: bool = False
    validate_every: int = 1

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise InputError(
                f"learning_rates must hold one or more positive rates, found {self.learning_rates}"
            )
        if sorted(set(self.learning_rates)) != list(self.learning_rates):
            raise InputError(f"learning_rates must rise, found {self.learning_rates}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be in [0, 1), found {self.momentum}")
        for name in ("weight_decay", "init_std", "gamma"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, found {getattr(self, name)}")
        if self.schedule not in ("cosine", "step"):
            raise InputError(f"schedule must be 'cosine' or 'step', found {self.schedule!r}")
        if self.schedule == "cosine":
            expect_default(self, ["steps", "gamma"], WITHOUT_STEPS)
        if self.optimizer not in ("sgd", "lars"):
            raise InputError(f"optimizer must be 'sgd' or 'lars', found {self.optimizer!r}")
        if self.optimizer == "lars" and self.batch_norm:
            raise InputError(
                "batch_norm has no optimizer 'lars': set optimizer to sgd, or batch_norm to false"
            )

    def factor(self, epoch: int) -> float:
        """What the learning rate is multiplied by in this epoch, counted from 0."""
        return schedule_factor(self.schedule, epoch, self.epochs, self.steps, self.gamma)


WITHOUT_STEPS = "schedule cosine has no steps: set schedule to step"


def schedule_factor(
    schedule: str, epoch: int, epochs: int, steps: Sequence[int], gamma: float
) -> float:
    """Factor of the learning rate, constant within an epoch: cosine to 0, or ``gamma`` per step."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return gamma ** sum(epoch >= step for step in steps)


class StackedHeads:
    """Softmax regressions for S label subsets x L learning rates, trained side by side.

    Each head sees what it would see alone: batches of its own subset in the stream's order.

    Args:
        dim: width D of the features.
        labels: int64 (N,), of all training images.
        subsets: S index tensors of one length n.
        seeds: S seeds of the initial weights, which all learning rates of a subset share.
        classes: number K of classes.
        protocol: how to train.
        positions: how many neighbouring features are one channel at several places, for
            ``protocol.batch_norm``; D must be a multiple of it.

    Attributes:
        weight: float32 (S, D + 1, K, L); the last row is the bias.

    Raises:
        ValueError: when the subsets differ in length or are empty.
    """

    def __init__(
        self,
        dim: int,
        labels: Tensor,
        subsets: Sequence[Tensor],
        seeds: Sequence[int],
        classes: int,
        protocol: LinearProtocol,
        positions: int = 1,
    ) -> None:
        sizes = {len(subset) for subset in subsets}
        if len(sizes) != 1 or 0 in sizes:
            raise InputError(
                "label subsets that are trained together need one length of at least 1, found "
                f"{sorted(sizes)}"
            )
        self.protocol, self.classes, self.labels = protocol, classes, labels
        rates = labels.new_tensor(protocol.learning_rates, dtype=torch.float32)
        self._rates = rates.view(1, 1, 1, -1)
        self.weight = labels.new_zeros(
            (len(subsets), dim + 1, classes, len(rates)), dtype=torch.float32
        )
        for head, seed in zip(self.weight, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            weight = torch.randn(dim, classes, generator=generator) * protocol.init_std
            head[:-1] = weight.to(head).unsqueeze(-1)
        self._momentum = torch.zeros_like(self.weight)
        self._norm = _ChannelNorm(self.weight, positions) if protocol.batch_norm else None
        self._members = [
            torch.zeros(len(labels), dtype=torch.bool).index_fill_(0, subset.cpu(), True)
            for subset in subsets
        ]
        self._waiting = [(self.weight.new_empty(0, dim + 1), labels[:0]) for _ in subsets]
        self.epoch = 0

    def consume(self, features: Tensor, indices: Tensor) -> None:
        """Takes a piece of the stream, and a step for every full batch that it completes.

        Its rows are picked on the CPU: how many there are would have to be asked of the device.
        """
        features, indices = with_ones(features), indices.cpu()
        for i, member in enumerate(self._members):
            rows = member[indices].nonzero().flatten()
            chosen = indices[rows].to(self.labels.device, non_blocking=True)
            x, y = self._waiting[i]
            self._waiting[i] = (
                torch.cat((x, features[rows.to(features.device, non_blocking=True)])),
                torch.cat((y, self.labels[chosen])),
            )
        size = self.protocol.batch_size
        ready = min(len(y) for _, y in self._waiting) // size * size
        for start in range(0, ready, size):
            self._step(slice(start, start + size))
        self._waiting = [(x[ready:], y[ready:]) for x, y in self._waiting]

    def end_epoch(self) -> None:
        """A step on what is left, and on to the next epoch's learning rate."""
        if len(self._waiting[0][1]):
            self._step(slice(None))
            self._waiting = [(x[:0], y[:0]) for x, y in self._waiting]
        self.epoch += 1

    def _step(self, batch: slice) -> None:
        x = torch.stack([x[batch] for x, _ in self._waiting])
        y = torch.stack([y[batch] for _, y in self._waiting])
        if self._norm is not None:
            x = self._norm.normalise(x)
        error = _logits(x, self._training_weight()).softmax(dim=2)
        error -= F.one_hot(y, self.classes).to(error).unsqueeze(-1)
        factor = self.protocol.factor(self.epoch)
        # buffer <- momentum * buffer + (gradient of the mean loss + weight decay * weight)
        if self.protocol.optimizer == "lars":
            gradient = torch.bmm(x.mT, error.flatten(2)).view_as(self.weight) / x.shape[1]
            gradient = larc(gradient, self.weight, self.protocol.weight_decay)
            self._momentum.mul_(self.protocol.momentum).add_(gradient)
            self.weight.addcmul_(self._momentum, self._rates, value=-factor)
            return
        if self._norm is None:
            self._momentum.flatten(2).baddbmm_(
                x.mT, error.flatten(2), beta=self.protocol.momentum, alpha=1 / x.shape[1]
            )
        else:
            gradient = torch.bmm(x.mT, error.flatten(2)).view_as(self.weight) / x.shape[1]
            gradient = self._norm.step(gradient, self.weight, self.protocol, self._rates * factor)
            self._momentum.mul_(self.protocol.momentum).add_(gradient)
        self._momentum.add_(self.weight, alpha=self.protocol.weight_decay)
        self.weight.addcmul_(self._momentum, self._rates, value=-factor)

    def _training_weight(self) -> Tensor:
        return self.weight if self._norm is None else self._norm.fold(self.weight)

    def evaluation_weight(self) -> Tensor:
        """(S, D + 1, K, L) for features as they come: the batch normalisation is folded in."""
        return self.weight if self._norm is None else self._norm.fold_running(self.weight)

    def accuracy(self, features: Tensor, labels: Tensor) -> Tensor:
        """Top-1 percentage of every head on the same images: (N, D), (N,) -> (S, L)."""
        weight = self.evaluation_weight()
        hits = torch.zeros((), device=weight.device)
        for x, y in zip(features.split(2048), labels.split(2048), strict=True):
            x, y = x.to(weight.device), y.to(weight.device)
            logits = _logits(with_ones(x).expand(len(weight), -1, -1), weight)
            hits = hits + (logits.argmax(dim=2) == y.view(1, -1, 1)).sum(dim=1)
        return 100 * hits / len(labels)

    def state_dict(self) -> dict[str, Any]:
        """Between two epochs."""
        return {
            "epoch": self.epoch,
            "weight": self.weight,
            "momentum": self._momentum,
            "norm": None if self._norm is None else vars(self._norm),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.weight.copy_(state["weight"])
        self._momentum.copy_(state["momentum"])
        if self._norm is not None:
            vars(self._norm).update(
                {
                    key: value.to(self.weight.device) if isinstance(value, Tensor) else value
                    for key, value in state["norm"].items()
                }
            )


def larc(gradient: Tensor, weight: Tensor, weight_decay: float, trust: float = 0.001) -> Tensor:
    """The gradient of stacked heads after layer-wise rate control, not clipped.

    Of each head the weights w are one layer and the biases another: where neither norm is 0,
    ``g <- (g + weight_decay w) trust ||w|| / (||g|| + weight_decay ||w|| + 1e-8)``, else g stays as
    it is, without decay.

    Args:
        gradient, weight: (S, D + 1, K, L); the last row is the bias.

    Source: apex.parallel.LARC with clip=False, as SimSiam's main_lincls.py and e2mc's
    eval_linear.py take it.
    """
    scaled = []
    for rows in (slice(None, -1), slice(-1, None)):
        g, w = gradient[:, rows], weight[:, rows]
        g_norm, w_norm = (x.square().sum(dim=(1, 2), keepdim=True).sqrt() for x in (g, w))
        rate = trust * w_norm / (g_norm + weight_decay * w_norm + 1e-8)
        both = (w_norm > 0) & (g_norm > 0)
        scaled.append(torch.where(both, (g + weight_decay * w) * rate, g))
    return torch.cat(scaled, dim=1)


class _ChannelNorm:
    """Batch normalisation in front of S x L heads, as torch.nn.BatchNorm does it.

    Scale g and shift h belong to a head, the statistics to a label subset. Instead of the features
    the weights are changed: w (g x + h) + b = (w g) x + (w h + b), so one matrix product still
    serves every learning rate. Features are ordered by channel, then position.
    """

    epsilon, decay = 1e-5, 0.1  # as in PyTorch

    def __init__(self, weight: Tensor, positions: int) -> None:
        subsets, dim, _, rates = weight.shape
        if (dim - 1) % positions:
            raise InputError(f"{dim - 1} features are no multiple of {positions} positions")
        self.positions = positions
        shape = (subsets, (dim - 1) // positions)
        self.scale, self.shift = weight.new_ones(*shape, rates), weight.new_zeros(*shape, rates)
        self.scale_momentum = torch.zeros_like(self.scale)
        self.shift_momentum = torch.zeros_like(self.shift)
        self.mean, self.variance = weight.new_zeros(shape), weight.new_ones(shape)

    def normalise(self, x: Tensor) -> Tensor:
        """(S, B, D + 1) -> the same with mean 0 and variance 1 per channel; updates both."""
        values = x[..., :-1].unflatten(2, (-1, self.positions))
        mean = values.mean(dim=(1, 3))
        variance = values.var(dim=(1, 3), unbiased=False)
        count = x.shape[1] * self.positions
        self.mean.lerp_(mean, self.decay)
        self.variance.lerp_(variance * (count / max(count - 1, 1)), self.decay)
        deviation = (variance + self.epsilon).sqrt()
        values = (values - mean[:, None, :, None]) / deviation[:, None, :, None]
        return torch.cat((values.flatten(2), x[..., -1:]), dim=2)

    def fold(self, weight: Tensor) -> Tensor:
        """Weights for normalised features that give what scale, shift and ``weight`` give."""
        return self._folded(weight, self.scale, self.shift)

    def fold_running(self, weight: Tensor) -> Tensor:
        """Weights for features as they come, with the running mean and variance."""
        scale = self.scale / (self.variance + self.epsilon).sqrt().unsqueeze(-1)
        return self._folded(weight, scale, self.shift - scale * self.mean.unsqueeze(-1))

    def _folded(self, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        rows = weight[:, :-1]
        bias = weight[:, -1:] + torch.einsum("sdkl,sdl->skl", rows, self._spread(shift))[:, None]
        return torch.cat((rows * self._spread(scale).unsqueeze(2), bias), dim=1)

    def _spread(self, per_channel: Tensor) -> Tensor:
        """(S, C, L) -> (S, D, L)."""
        return per_channel.repeat_interleave(self.positions, dim=1)

    def step(
        self, gradient: Tensor, weight: Tensor, protocol: LinearProtocol, rates: Tensor
    ) -> Tensor:
        """Updates scale and shift; from the folded weights' gradient to the weights' own."""
        rows, bias = gradient[:, :-1], gradient[:, -1]
        into_scale = torch.einsum("sdkl,sdkl->sdl", weight[:, :-1], rows)
        into_shift = torch.einsum("sdkl,skl->sdl", weight[:, :-1], bias)
        rows = rows * self._spread(self.scale).unsqueeze(2)
        rows = rows + self._spread(self.shift).unsqueeze(2) * bias.unsqueeze(1)
        for value, momentum, part in (
            (self.scale, self.scale_momentum, into_scale),
            (self.shift, self.shift_momentum, into_shift),
        ):
            part = part.unflatten(1, (-1, self.positions)).sum(dim=2)
            momentum.mul_(protocol.momentum).add_(part).add_(value, alpha=protocol.weight_decay)
            value.sub_(momentum * rates.view(1, 1, -1))
        return torch.cat((rows, bias.unsqueeze(1)), dim=1)


def _logits(x: Tensor, weight: Tensor) -> Tensor:
    """(S, B, D + 1), (S, D + 1, K, L) -> (S, B, K, L)."""
    return torch.bmm(x, weight.flatten(2)).unflatten(2, weight.shape[2:])


def with_ones(features: Tensor) -> Tensor:
    """(N, D) -> (N, D + 1): a last column of ones, whose weight is the bias."""
    return F.pad(features, (0, 1), value=1.0)
