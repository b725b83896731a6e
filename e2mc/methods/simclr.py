"""SimCLR: contrastive learning of visual representations (Chen et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2mc.distributed import Group, gather, rank, world_size
from e2mc.errors import expect_number
from e2mc.methods.base import (
    LossAndTerms,
    Method,
    MethodOutput,
    check_widths,
    expect_two,
    mlp,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone


def nt_xent_loss(
    z1: Tensor, z2: Tensor, *, temperature: float = 0.5, group: Group = None
) -> Tensor:
    """Cross-entropy of finding an image's other view among all other views of the batch.

    With the 2N normalised embeddings e of the joint batch and p(i) the other view of the image
    in i, ``-mean_i log( exp(e_i . e_p(i) / t) / sum_{j != i} exp(e_i . e_j / t) )``.

    Args:
        z1, z2: ``(N, D)`` embeddings of the two views, not normalised; N is the same on all ranks.
        temperature: t, positive.
        group: process group over which the batch is spread; None for the default one.

    Returns:
        Scalar: the mean over this rank's rows i, so that the mean over the ranks is that of the
        joint batch.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
        2020 (arXiv 2002.05709), equation 1.
    """
    n = z1.shape[0]
    own = F.normalize(torch.stack([z1, z2]), dim=2)
    sizes = [n] * world_size(group)
    everyone = torch.cat([gather(e, group, sizes) for e in own])
    scores = own.flatten(0, 1) @ everyone.T / temperature
    first = torch.arange(n, device=z1.device) + n * rank(group)
    itself = torch.cat([first, first + sum(sizes)])
    other = torch.cat([first + sum(sizes), first])
    positions = torch.arange(everyone.shape[0], device=z1.device)
    return F.cross_entropy(scores.masked_fill(itself[:, None] == positions, -math.inf), other)


class SimCLR(Method):
    """SimCLR with the projection head of the paper: Linear, BatchNorm, ReLU, Linear.

    Each view goes through backbone and projector by itself.

    Args:
        backbone: see `Method`.
        hidden_dim: width of the projection head's hidden layer.
        dim: width D of the embeddings.
        temperature: see `nt_xent_loss`.
        objective: "own", or "er" for `er_on_sphere` of the two views' embeddings.
        kappa: see `er_on_sphere`.
        group: process group over which the batch is spread; None for the default one.

    Raises:
        ValueError: if a parameter is out of its range.
    """

    def __init__(
        self,
        backbone: Backbone,
        hidden_dim: int = 2048,
        dim: int = 128,
        temperature: float = 0.1,
        objective: Objective = "own",
        kappa: float = 10.0,
        group: Group = None,
    ) -> None:
        super().__init__(objective, kappa, group)
        check_widths(hidden_dim=hidden_dim, dim=dim)
        expect_number(temperature, "temperature", above=0)
        self.backbone = backbone
        self.projector = nn.Sequential(
            *mlp(backbone.feature_dim, hidden_dim), nn.Linear(hidden_dim, dim)
        )
        self.temperature = temperature

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        z1, z2 = self.embed(expect_two(views, "SimCLR"))
        with without_autocast(z1):
            return self.on_sphere((z1, z2), [(z1, z2)], own=lambda: self._contrast(z1, z2))

    def _contrast(self, z1: Tensor, z2: Tensor) -> LossAndTerms:
        loss = nt_xent_loss(z1, z2, temperature=self.temperature, group=self.group)
        return single_term("simclr", loss)
