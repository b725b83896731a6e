"""DINO: self-distillation with no labels (Caron et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2mc.distributed import Group, all_reduce_sum, world_size
from e2mc.errors import expect_integer, expect_number
from e2mc.methods.base import (
    LossAndTerms,
    Method,
    MethodOutput,
    at_least_float32,
    check_momentum,
    check_widths,
    expect_global,
    features_by_size,
    follow,
    frozen_copy,
    joint_embeddings,
    momentum_at,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.methods.swav import swapped_prediction_loss
from e2mc.models.backbone import Backbone


class WeightNormLinear(nn.Module):
    """Scores of embeddings against prototypes of unit length: cosines.

    The official last layer, a weight-normed Linear without bias whose magnitudes are fixed at 1,
    after the embeddings' normalisation.

    Args:
        dim: width of the embeddings.
        prototypes: number of scores.
    """

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(prototypes, dim), std=0.02))

    def forward(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=-1) @ F.normalize(self.weight).T


class DINO(Method):
    """DINO with a teacher that follows the student, centring, sharpening and multi-crop.

    The head is Linear, GELU, Linear, GELU, Linear to the embedding, without BatchNorm, then the
    prototypes. Targets are the teacher's softmax of ``(scores - centre) / teacher_temperature``
    for each global view; the student's softmax of ``scores / temperature`` of every other view
    predicts them. After every step the teacher moves towards the student with a momentum from
    ``ema`` to ``ema_last``, and the centre towards the mean of the teacher's scores. Checkpoints
    are evaluated with the student's backbone. The official head's last layer rests for an epoch
    and its teacher's temperature may grow; here neither does.

    Args:
        backbone: see `Method`.
        hidden_dim: width of the head's hidden layers.
        dim: width D of the embeddings.
        prototypes: number K of prototypes.
        temperature: of the student.
        teacher_temperature: of the teacher; lower is sharper.
        centre_momentum: weight of the past in the centre, in [0, 1].
        ema, ema_last: momentum of the teacher at the start and at the end of a run.
        objective: "own", or "er" for `er_of_assignments`: no centring, and a high entropy of the
            student's mean assignment in its place.
        global_views: how many of the first views the teacher sees.
        group: process group over which the batch is spread; None for the default one.

    Raises:
        ValueError: if a parameter is out of its range.
    """

    centre: Tensor

    def __init__(
        self,
        backbone: Backbone,
        hidden_dim: int = 2048,
        dim: int = 256,
        prototypes: int = 65536,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        centre_momentum: float = 0.9,
        ema: float = 0.996,
        ema_last: float = 1.0,
        objective: Objective = "own",
        global_views: int = 2,
        group: Group = None,
    ) -> None:
        super().__init__(objective, group=group)
        check_widths(hidden_dim=hidden_dim, dim=dim, prototypes=prototypes)
        check_momentum(ema, ema_last)
        expect_number(temperature, "temperature", above=0)
        expect_number(teacher_temperature, "teacher_temperature", above=0)
        expect_number(centre_momentum, "centre_momentum", at_least=0, at_most=1)
        expect_integer(global_views, "global_views", at_least=1)
        self.backbone = backbone
        self.projector = nn.Sequential(
            nn.Linear(backbone.feature_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, dim),
        )
        self.prototypes = WeightNormLinear(dim, prototypes)
        self.teacher_backbone = frozen_copy(self.backbone)
        self.teacher_projector = frozen_copy(self.projector)
        self.teacher_prototypes = frozen_copy(self.prototypes)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature
        self.centre_momentum = centre_momentum
        self.ema, self.ema_last = ema, ema_last
        self.global_views = global_views

    def end_step(self, progress: float) -> None:
        momentum = momentum_at(progress, self.ema, self.ema_last)
        follow(self.teacher_backbone, self.backbone, momentum)
        follow(self.teacher_projector, self.projector, momentum)
        follow(self.teacher_prototypes, self.prototypes, momentum)

    def embed_batch(self, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the embeddings of each view, all of which pass the head as one batch."""
        return joint_embeddings(self, views).unbind()

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        expect_global(views, self.global_views, "DINO")
        z = joint_embeddings(self, views)
        with torch.no_grad():
            features = features_by_size(self.teacher_backbone, views[: self.global_views])
            t = at_least_float32(self.teacher_projector(features))
            t = t.unflatten(0, (self.global_views, -1))
        with without_autocast(z):
            scores = self.prototypes(z)
            teacher_scores = self.teacher_prototypes(t)
            return self.on_assignments(
                z.unbind(),
                lambda: self._reconstruct(scores, teacher_scores),
                own=lambda: self._distil(scores, teacher_scores),
            )

    def _distil(self, scores: Tensor, teacher_scores: Tensor) -> LossAndTerms:
        loss = self._error(scores, teacher_scores - self.centre)
        if self.training:
            self._recentre(teacher_scores)
        return single_term("dino", loss)

    def _reconstruct(self, scores: Tensor, teacher_scores: Tensor) -> tuple[list[Tensor], Tensor]:
        """The student's assignments of the global views, and the error of all views."""
        assignments = (scores[: self.global_views] / self.temperature).softmax(dim=2)
        return list(assignments), self._error(scores, teacher_scores)

    def _error(self, scores: Tensor, teacher_scores: Tensor) -> Tensor:
        targets = (teacher_scores / self.teacher_temperature).softmax(dim=2)
        return swapped_prediction_loss(scores, targets, temperature=self.temperature)

    @torch.no_grad()
    def _recentre(self, scores: Tensor) -> None:
        mean = all_reduce_sum(scores.mean(dim=(0, 1)), self.group) / world_size(self.group)
        self.centre.lerp_(mean, 1 - self.centre_momentum)
