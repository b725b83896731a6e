"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from e2mc.errors import InputError, expect_default, expect_known, expect_number


class _LayerwiseMomentum(Optimizer):
    """Momentum on updates that `_updates` has scaled per parameter tensor.

    ``mu <- momentum mu + update``, then ``p <- p - lr mu``.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Tensor] | None = None
    ) -> Tensor | None:
        """Take one step; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if "mu" not in self.state[p]:
                    self.state[p]["mu"] = torch.zeros_like(p)
            mus = [self.state[p]["mu"] for p in params]
            torch._foreach_mul_(mus, group["momentum"])
            torch._foreach_add_(mus, self._updates(params, group))
            torch._foreach_add_(params, mus, alpha=-group["lr"])
        return loss

    def _updates(self, params: list[Tensor], group: dict) -> list[Tensor]:
        raise NotImplementedError


class _ScaledBeyondOneAxis(_LayerwiseMomentum):
    """Scales parameters with more than one axis; biases and BatchNorm get their gradients."""

    def _updates(self, params: list[Tensor], group: dict) -> list[Tensor]:
        updates: list[Any] = [p.grad for p in params]
        several = [i for i, p in enumerate(params) if p.ndim != 1]
        if several:
            weights, grads = [params[i] for i in several], [updates[i] for i in several]
            for i, update in zip(several, self._scaled(weights, grads, group), strict=True):
                updates[i] = update
        return updates

    def _scaled(self, weights: list[Tensor], grads: list[Any], group: dict) -> list[Tensor]:
        raise NotImplementedError


class LARS(_ScaledBeyondOneAxis):
    """Layer-wise adaptive rate scaling as in VICReg's official code.

    For a parameter p with more than one axis and gradient g, ``u = g + weight_decay p`` and
    ``mu <- momentum mu + u * trust ||p|| / ||u||`` (factor 1 if either norm is 0), then
    ``p <- p - lr mu``. Parameters with one axis (biases, BatchNorm) get neither decay nor factor.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay of the momentum, in [0, 1).
        weight_decay: not negative.
        trust: trust coefficient, positive (eta in the official code).

    Source: You, Gitman, Ginsburg, 2017 (arXiv 1708.03888), in the form of VICReg's official code.
    """

    def _scaled(self, weights: list[Tensor], grads: list[Any], group: dict) -> list[Tensor]:
        decayed = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
        weight_norm = torch.stack(torch._foreach_norm(weights))
        update_norm = torch.stack(torch._foreach_norm(decayed))
        both = (weight_norm > 0) & (update_norm > 0)
        factor = torch.where(both, group["trust"] * weight_norm / update_norm, 1.0)
        torch._foreach_mul_(decayed, list(factor.unbind()))
        return list(decayed)


class LARC(_ScaledBeyondOneAxis):
    """Layer-wise adaptive rate control, clipped, as in solo-learn's recipes for CIFAR.

    For a parameter p with more than one axis and gradient g, both not zero,
    ``mu <- momentum mu + (g + weight_decay p) min(1, rate / lr)`` with
    ``rate = trust ||p|| / (||g|| + weight_decay ||p|| + 1e-8)``, so that no layer is faster than
    plain SGD; if either is zero, and for parameters with one axis (biases, BatchNorm),
    ``mu <- momentum mu + g``, without decay. Then ``p <- p - lr mu``.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay of the momentum, in [0, 1).
        weight_decay: not negative.
        trust: trust coefficient, positive (eta in solo-learn).

    Source: apex.parallel.LARC with clip=True; LARS with clip_lr and exclude_bias_n_norm of
        solo-learn (da Costa et al., 2022, JMLR 23).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.02,
    ) -> None:
        super().__init__(params, lr, momentum, weight_decay, trust)

    def _scaled(self, weights: list[Tensor], grads: list[Any], group: dict) -> list[Tensor]:
        def clipped(rate: Tensor) -> Tensor:
            # a warm-up begins at a rate of zero, at which nothing is clipped
            return (rate / group["lr"]).clamp(max=1) if group["lr"] else torch.ones_like(rate)

        return _rate_controlled(weights, grads, group, clipped)


class LARCSGD(_LayerwiseMomentum):
    """SGD with momentum and apex's layer-wise rate control (LARC, not clipped), as SwAV uses it.

    For a parameter p with gradient g, both not zero,
    ``mu <- momentum mu + (g + weight_decay p) trust ||p|| / (||g|| + weight_decay ||p|| + 1e-8)``;
    if either is zero, ``mu <- momentum mu + g``, without decay. Then ``p <- p - lr mu``. All
    parameters are treated alike, biases and BatchNorm too.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: decay of the momentum, in [0, 1).
        weight_decay: not negative.
        trust: trust coefficient, positive.

    Source: apex.parallel.LARC with clip=False around torch.optim.SGD.
    """

    def _updates(self, params: list[Tensor], group: dict) -> list[Tensor]:
        return _rate_controlled(params, [p.grad for p in params], group, lambda rate: rate)


def _rate_controlled(
    weights: list[Tensor], grads: list[Any], group: dict, factor: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Decayed gradients times ``factor(rate)``, with LARC's rate of each; see `LARCSGD`."""
    weight_norm = torch.stack(torch._foreach_norm(weights))
    grad_norm = torch.stack(torch._foreach_norm(grads))
    both = (weight_norm > 0) & (grad_norm > 0)
    decay = group["weight_decay"] * both.to(weight_norm)
    rate = group["trust"] * weight_norm / (grad_norm + decay * weight_norm + 1e-8)
    updates = list(torch._foreach_mul(weights, list(decay.unbind())))
    torch._foreach_add_(updates, grads)
    torch._foreach_mul_(updates, list(torch.where(both, factor(rate), 1.0).unbind()))
    return updates


@dataclass(frozen=True)
class OptimizerSpec:
    """Which optimizer, with which settings.

    Attributes:
        name: "sgd", "lars", "larc", "larc-sgd", "adam" or "adamw".
        lr: initial learning rate, positive.
        momentum: in [0, 1); Adam and AdamW have none, and refuse it.
        weight_decay: not negative.
        group_lr: constant learning rates of parameter groups, by the group's name; a schedule does
            not change them (SimSiam's predictor).
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    group_lr: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expect_known(self.name, OPTIMIZERS, "optimizer")
        for name, lr in {"lr": self.lr, **self.group_lr}.items():
            if not lr > 0:
                raise InputError(f"The learning rate {name!r} is {lr}, it must be positive.")
        if not 0 <= self.momentum < 1:
            raise InputError(f"The momentum is {self.momentum}, it must be in [0, 1).")
        if not self.weight_decay >= 0:
            raise InputError(f"The weight decay is {self.weight_decay}, it must not be negative.")
        if self.name in WITHOUT_MOMENTUM:
            why = f"optimizer {self.name} has none: name another optimizer"
            expect_default(self, ["momentum"], why)


@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate changes with time.

    Attributes:
        name: "constant" or "cosine".
        warmup_epochs: length of the linear warm-up from zero, not negative.
        final_factor: what is left of the initial learning rate at the end of the cosine, in [0, 1];
            refused without a cosine.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str = "constant"
    warmup_epochs: float = 0
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        expect_known(self.name, ("constant", "cosine"), "schedule")
        expect_number(self.warmup_epochs, "warmup_epochs", at_least=0)
        expect_number(self.final_factor, "final_factor", at_least=0, at_most=1)
        if self.name != "cosine":
            expect_default(self, ["final_factor"], f"schedule {self.name} has no end: name cosine")


def _without_compiler(optimizer: type[Optimizer]) -> type[Optimizer]:
    """The optimizer, whose methods do not import the compiler of PyTorch.

    They do in order to hide from it, which takes as long as importing PyTorch itself.
    """
    hidden = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in hidden}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": _without_compiler(SGD),
    "lars": _without_compiler(LARS),
    "larc": _without_compiler(LARC),
    "larc-sgd": _without_compiler(LARCSGD),
    "adam": _without_compiler(Adam),
    "adamw": _without_compiler(AdamW),
}
WITHOUT_MOMENTUM = ("adam", "adamw")


def create_optimizer(spec: OptimizerSpec, groups: list[dict]) -> Optimizer:
    """Create the optimizer of `spec` for parameter groups as a method gives them.

    Args:
        spec: the optimizer's settings.
        groups: dicts with keys "name" and "params".

    Returns:
        An optimizer whose `param_groups` keep their "name" and have their initial "lr".

    Raises:
        ValueError: if `spec.group_lr` names a group that does not exist.
    """
    names = [group["name"] for group in groups]
    if unknown := sorted(set(spec.group_lr) - set(names)):
        raise InputError(
            f"group_lr names the parameter groups {unknown}, but there are only {names}."
        )
    groups = [{**group, "lr": spec.group_lr.get(group["name"], spec.lr)} for group in groups]
    settings: dict[str, Any] = {"weight_decay": spec.weight_decay}
    if spec.name not in WITHOUT_MOMENTUM:
        settings["momentum"] = spec.momentum
    settings["lr"] = spec.lr
    return OPTIMIZERS[spec.name](groups, **settings)


def learning_rate_factor(
    schedule: ScheduleSpec, step: int, steps_per_epoch: int, total_steps: int
) -> float:
    """Return what the initial learning rates are multiplied with at a step.

    ``step / w`` during the w warm-up steps; afterwards 1 (constant) or
    ``f + (1 - f) (1 + cos(pi (step - w) / (T - w))) / 2`` (cosine) with T steps in all and the
    final factor f.

    Args:
        schedule: the schedule's settings.
        step: number of steps taken so far, in [0, total_steps].
        steps_per_epoch: of the warm-up, which is in epochs.
        total_steps: length of the run.
    """
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return step / warmup
    if schedule.name == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total_steps - warmup)
    q = (1 + math.cos(math.pi * progress)) / 2
    return schedule.final_factor + (1 - schedule.final_factor) * q
