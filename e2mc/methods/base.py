"""What every base method shares: its output, its interface, and how losses leave autocast."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2mc.distributed import Group
from e2mc.errors import InputError, expect_integer, expect_number
from e2mc.methods.objective import Objective, check_objective, er_of_assignments, er_on_sphere

Batches = Callable[[], Iterator[tuple[Tensor, list[Tensor]]]]
LossAndTerms = tuple[Tensor, dict[str, Tensor]]


class MethodOutput(NamedTuple):
    """What one forward pass of a method gives.

    Attributes:
        loss: scalar in float32 or better, with gradient.
        embeddings: one ``(N, D)`` tensor per view, in the order of the views, not normalised, with
            gradient: what an add-on criterion sees.
        terms: the parts of the loss before weighting, detached, under names that begin with the
            method's, so that they never meet those of an add-on criterion.
    """

    loss: Tensor
    embeddings: tuple[Tensor, ...]
    terms: dict[str, Tensor]


class Method(nn.Module):
    """A self-supervised method: views of the same images in, loss and embeddings out.

    A training loop calls, in this order, ``begin_run`` once, ``begin_epoch`` at the start of each
    epoch, and ``begin_step``, ``forward`` and, after the optimizer's step, ``end_step`` for each
    batch. A run that is resumed within an epoch goes on with ``begin_step``.

    Args:
        objective: "own" for the method's own loss, or "er" for entropy and reconstruction of what
            the method gives to ``on_sphere`` or ``on_assignments``.
        kappa: see `er_on_sphere`; of use on the sphere alone.
        group: process group over which the batch is spread; None for the default one.

    Raises:
        ValueError: if the objective is unknown or kappa not positive.

    Attributes:
        backbone: module from images ``(N, C, H, W)`` to features ``(N, backbone.feature_dim)``.
        projector: module from features to embeddings ``(N, D)``.
        global_views: how many of the first views are global crops; the others are local crops.
        run_state: names of the state-dict entries that belong to a run and not to the model, such
            as a queue. A resumed run needs them, a continued run starts without them.
    """

    backbone: nn.Module
    projector: nn.Module
    global_views: int = 2
    run_state: tuple[str, ...] = ()

    def __init__(
        self, objective: Objective = "own", kappa: float = 10.0, group: Group = None
    ) -> None:
        super().__init__()
        check_objective(objective, kappa)
        self.objective = objective
        self.kappa = kappa
        self.group = group

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        """Compute the loss of one batch.

        Args:
            views: one ``(N, C, H, W)`` tensor per view, row i of each showing image i; the global
                views first.

        Raises:
            ValueError: if the number of views is not what the method wants.
        """
        raise NotImplementedError

    def embed(self, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the embeddings of each view, as in `MethodOutput`, without a loss."""
        return tuple(at_least_float32(self.projector(self.backbone(view))) for view in views)

    def embed_batch(self, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return what `forward` gives as embeddings: in training mode as the batch normalises."""
        return self.embed(views)

    def on_sphere(
        self,
        embeddings: tuple[Tensor, ...],
        pairs: Sequence[tuple[Tensor, Tensor]],
        own: Callable[[], LossAndTerms],
    ) -> MethodOutput:
        """Return the output under the objective: `er_on_sphere` of these, or what ``own`` gives."""
        return self._output(
            embeddings, lambda: er_on_sphere(embeddings, pairs, self.kappa, self.group), own
        )

    def on_assignments(
        self,
        embeddings: tuple[Tensor, ...],
        assignments_and_error: Callable[[], tuple[Sequence[Tensor], Tensor]],
        own: Callable[[], LossAndTerms],
    ) -> MethodOutput:
        """Return the output under the objective: `er_of_assignments`, or what ``own`` gives.

        Both are functions because assigning may change what is remembered, such as a queue.
        """
        return self._output(
            embeddings, lambda: er_of_assignments(*assignments_and_error(), self.group), own
        )

    def _output(
        self,
        embeddings: tuple[Tensor, ...],
        er: Callable[[], LossAndTerms],
        own: Callable[[], LossAndTerms],
    ) -> MethodOutput:
        loss, terms = er() if self.objective == "er" else own()
        return MethodOutput(loss, embeddings, terms)

    def begin_run(self, images: int) -> None:
        """Make room for what is remembered of each image, before a state is loaded.

        Args:
            images: how many images the run trains on.
        """

    def begin_epoch(self, generator: torch.Generator, batches: Batches) -> None:
        """Do what happens once an epoch.

        Args:
            generator: for random draws; the same on every rank and in a resumed run.
            batches: starts a pass over all images; gives this rank's indices ``(N,)`` and views.
        """

    def begin_step(self, indices: Tensor) -> None:
        """Hear which images the next batch shows.

        Args:
            indices: int64 ``(N,)``, of this rank's share; images are numbered from 0.
        """

    def end_step(self, progress: float) -> None:
        """Follow the weights after a step of the optimizer.

        Args:
            progress: share of the run's steps that came before this one, in [0, 1).
        """

    def parameter_groups(self) -> list[dict]:
        """Return the trainable parameters as optimizer groups with keys "name" and "params"."""
        return [{"name": "all", "params": trainable(self)}]


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of `module` that are not frozen."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def single_term(name: str, loss: Tensor) -> LossAndTerms:
    """Return a loss that is its only term."""
    return loss, {name: loss.detach()}


def encoder_and_predictor(method: Method, predictor: nn.Module) -> list[dict]:
    """Return the optimizer groups "encoder" (backbone and projector) and "predictor"."""
    encoder = trainable(method.backbone) + trainable(method.projector)
    return [
        {"name": "encoder", "params": encoder},
        {"name": "predictor", "params": trainable(predictor)},
    ]


def crossed_similarity(p1: Tensor, p2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    """Return ``(mean_n cos(p1_n, t2_n) + mean_n cos(p2_n, t1_n)) / 2``; the targets t are fixed."""
    similarity_12 = F.cosine_similarity(p1, t2.detach(), dim=1).mean()
    similarity_21 = F.cosine_similarity(p2, t1.detach(), dim=1).mean()
    return (similarity_12 + similarity_21) / 2


def mlp(*widths: int, bias: bool = True) -> list[nn.Module]:
    """Return the layers Linear, BatchNorm1d, ReLU between each two successive `widths`."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [
            nn.Linear(width_in, width_out, bias=bias),
            nn.BatchNorm1d(width_out),
            nn.ReLU(inplace=True),
        ]
    return layers


def features_by_size(backbone: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Return the features of all views, one view after another.

    Successive views of one size go through the backbone as one batch, so that the statistics of
    BatchNorm are those of a size.
    """
    sizes = groupby(views, key=lambda view: view.shape[1:])
    return torch.cat([backbone(torch.cat(list(same))) for _, same in sizes])


def joint_embeddings(method: Method, views: Sequence[Tensor]) -> Tensor:
    """Return the ``(V, N, D)`` embeddings of views that pass the projector as one batch.

    They pass the backbone as in `features_by_size`.
    """
    z = at_least_float32(method.projector(features_by_size(method.backbone, views)))
    return z.unflatten(0, (len(views), -1))


def frozen_copy(module: nn.Module) -> nn.Module:
    """Return a copy that no gradient reaches: a target network."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the target's parameters: ``target <- momentum * target + (1 - momentum) * online``.

    Buffers are the target's own: BatchNorm's statistics come from what it sees itself.
    """
    pairs = zip(target.parameters(), online.parameters(), strict=True)
    for mine, theirs in pairs:
        mine.lerp_(theirs, 1 - momentum)


def momentum_at(progress: float, first: float, last: float) -> float:
    """Return the momentum of a target network, which moves from ``first`` to ``last`` by a cosine.

    ``last - (last - first) * (cos(pi * progress) + 1) / 2``

    Source: Grill et al., "Bootstrap Your Own Latent", 2020 (arXiv 2006.07733), section 3.2.
    """
    return last - (last - first) * (math.cos(math.pi * progress) + 1) / 2


def check_momentum(ema: float, ema_last: float) -> None:
    """Raise ValueError unless both are momenta, in [0, 1]."""
    expect_number(ema, "ema", at_least=0, at_most=1)
    expect_number(ema_last, "ema_last", at_least=0, at_most=1)


def check_widths(**widths: int) -> None:
    """Raise ValueError unless every width of a layer is a whole number of at least 1."""
    for name, width in widths.items():
        expect_integer(width, name, at_least=1)


def check_list_of_widths(widths: Sequence[int], what: str) -> None:
    """Raise ValueError unless these are one or more whole numbers of at least 1."""
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise InputError(f"{what} must be a list of at least one whole number, found {widths!r}")
    for width in widths:
        expect_integer(width, f"each of {what}", at_least=1)


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 if it came out of autocast in half precision, else `x` itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which operations keep the precision of their inputs, on x's device."""
    return torch.autocast(x.device.type, enabled=False)


def expect_global(views: Sequence[Tensor], global_views: int, method: str) -> None:
    """Raise ValueError unless ``global_views`` of the views may be global ones, of two at least."""
    if len(views) < max(2, global_views):
        raise InputError(
            f"{method} needs {global_views} global views and at least two views in all, found "
            f"{len(views)}."
        )


def expect_two(views: Sequence[Tensor], method: str) -> Sequence[Tensor]:
    """Return `views` if they are two, as methods that compare a pair need."""
    if len(views) != 2:
        raise InputError(f"{method} compares two views of each image, found {len(views)}.")
    return views
