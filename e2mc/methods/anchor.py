"""Anchor: a backbone without heads stays near what it was, whatever a criterion asks of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from e2mc.distributed import Group, all_reduce_sum, world_size
from e2mc.errors import expect_integer, expect_number
from e2mc.methods.base import (
    Batches,
    LossAndTerms,
    Method,
    MethodOutput,
    at_least_float32,
    crossed_similarity,
    expect_two,
    frozen_copy,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone


class Anchor(Method):
    """Each view's feature near that of the model as it was on the other view; there is no head.

    With f the backbone, f0 its frozen copy from the start of the run, and m, s mean and deviation
    of f0's features on the training images' views, z = (f - m) / s is what a criterion sees, and

        loss = weight * (1 - (mean_n cos(z1_n, a2_n) + mean_n cos(z2_n, a1_n)) / 2),
        a = (f0 - m) / s,

    in [0, 2 * weight], so that a criterion can act on any backbone without undoing it. Heads that
    begin with random weights would pull the features to wherever these happen to point.

    m and s are part of the checkpoint: a run that goes on from a continued model keeps them, and
    stays near that model. Without them (a base that was never continued) z is standardised by the
    batch at hand. f0 is in evaluation mode, f in training mode.

    Args:
        backbone: module from images to features with an attribute ``feature_dim``.
        weight: > 0, of the loss, against that of criteria.
        images: at least 2, from whose views m and s are computed, or all of the training images if
            there are fewer.
        objective: "own", or "er" for `er_on_sphere`: z reconstructs a of the other view, and the
            entropy is that of z.
        kappa: see `er_on_sphere`.
        group: see `Method`.

    Source: the loss is SimSiam's (Chen and He 2021, equation 2) without a predictor, towards fixed
    targets; keeping features near those of the start is the hint of Romero et al. 2015 (FitNets).
    """

    projector: Standardise
    anchor: nn.Module
    anchored: Tensor

    def __init__(
        self,
        backbone: Backbone,
        weight: float = 1.0,
        images: int = 4096,
        objective: Objective = "own",
        kappa: float = 10.0,
        group: Group = None,
    ) -> None:
        super().__init__(objective, kappa, group)
        expect_number(weight, "weight", above=0)
        expect_integer(images, "images", at_least=2)
        self.backbone = backbone
        self.projector = Standardise(backbone.feature_dim)
        self.weight = weight
        self.images = images

    def begin_run(self, images: int) -> None:
        self.anchor = frozen_copy(self.backbone).eval()
        self.register_buffer("anchored", torch.tensor(False))
        self.run_state = ("anchored", *(f"anchor.{key}" for key in self.anchor.state_dict()))

    @torch.no_grad()
    def begin_epoch(self, generator: torch.Generator, batches: Batches) -> None:
        if self.anchored:
            return
        self.anchor.load_state_dict(self.backbone.state_dict())
        self.anchored.fill_(True)
        if not self.projector.known:
            self.projector.set(*self._moments(batches))

    def train(self, mode: bool = True) -> Anchor:
        super().train(mode)
        if "anchor" in self._modules:
            self.anchor.eval()
        return self

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        expect_two(views, "Anchor")
        if "anchor" not in self._modules or not self.anchored:
            raise RuntimeError("Anchor has nothing to stay near: call begin_run and begin_epoch")
        z1, z2 = self.embed(views)
        with torch.no_grad():
            a1, a2 = (self.projector(at_least_float32(self.anchor(view))) for view in views)
        with without_autocast(z1):
            return self.on_sphere(
                (z1, z2), [(z1, a2), (z2, a1)], own=lambda: self._own(z1, z2, a1, a2)
            )

    def _own(self, z1: Tensor, z2: Tensor, a1: Tensor, a2: Tensor) -> LossAndTerms:
        distance, terms = single_term("anchor", 1 - crossed_similarity(z1, z2, a1, a2))
        return self.weight * distance, terms

    def _moments(self, batches: Batches) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the features of views, over all ranks."""
        features = self.projector.mean
        count = features.new_zeros((), dtype=torch.float64)
        total = torch.zeros_like(features, dtype=torch.float64)
        squares = torch.zeros_like(total)
        seen = 0
        for _, views in batches():
            for view in views:
                found = self.anchor(view).double()
                count += len(found)
                total += found.sum(dim=0)
                squares += found.square().sum(dim=0)
            seen += len(views[0]) * world_size(self.group)
            if seen >= self.images:
                break
        count, total, squares = (all_reduce_sum(x, self.group) for x in (count, total, squares))
        mean = total / count
        return mean, (squares / count - mean.square()).clamp(min=0).sqrt()


class Standardise(nn.Module):
    """Features minus their mean, over their deviation; by the batch at hand as long as none is set.

    Args:
        dim: width D of the features.

    Shape: (N, D) -> (N, D).
    """

    mean: Tensor
    std: Tensor
    known: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("known", torch.tensor(False))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """From now on these; a coordinate that never varies is left at 0."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.known.fill_(True)

    def forward(self, features: Tensor) -> Tensor:
        if self.known:
            return (features - self.mean) / _or_infinity(self.std)
        std = features.std(dim=0, correction=0)
        return (features - features.mean(dim=0)) / _or_infinity(std)


def _or_infinity(std: Tensor) -> Tensor:
    """Deviations, and infinity for 0; checkpoints hold finite numbers alone."""
    return torch.where(std > 0, std, torch.inf)
