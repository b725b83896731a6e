"""SwAV: swapping assignments between views (Caron et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2mc.distributed import Group, all_reduce_sum, world_size
from e2mc.errors import InputError, expect_integer, expect_number
from e2mc.methods.base import (
    LossAndTerms,
    Method,
    MethodOutput,
    at_least_float32,
    check_widths,
    expect_global,
    features_by_size,
    mlp,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone
from e2mc.sphere import reconstruction


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    group: Group = None,
) -> Tensor:
    """Soft assignments of samples to prototypes that use all prototypes equally.

    Starts from ``Q = exp(scores / epsilon)``, scaled to the total B, and alternately scales the
    columns (prototypes) to B/K and the rows (samples) to 1; B counts the samples of all ranks.

    Args:
        scores: ``(N, K)`` cosines of this rank's N samples with the K prototypes; N is the same on
            all ranks.
        epsilon: weight of the assignments' entropy, positive; below about 0.02 the smallest
            entries underflow in float32.
        iterations: how often to scale columns and rows; 0 gives the scaled Q itself.
        group: process group over which the samples are spread; None for the default one.

    Returns:
        ``(N, K)`` assignments; after at least one iteration each row sums to 1.

    Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster
        Assignments", 2020 (arXiv 2006.09882), equation 5 and appendix A.1.
    """
    q = torch.exp((scores - 1) / epsilon)  # cosines are at most 1; the shift cancels below
    samples, prototypes = q.shape[0] * world_size(group), q.shape[1]
    q *= samples / all_reduce_sum(q.sum(), group)
    for _ in range(iterations):
        q *= samples / prototypes / all_reduce_sum(q.sum(dim=0), group)
        q /= q.sum(dim=1, keepdim=True)
    return q


def swapped_prediction_loss(
    scores: Tensor, assignments: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Cross-entropy of each global view's assignments and all other views' predictions.

    ``-mean_{i, v != i} mean_n sum_k q_ink log softmax_k(s_vnk / temperature)`` over the global
    views i and all views v.

    Args:
        scores: ``(V, N, K)`` scores of V >= 2 views, the G global ones first.
        assignments: ``(G, N, K)`` targets of the global views, rows summing to 1.
        temperature: softmax temperature, positive.

    Returns:
        Scalar.

    Source: Caron et al., 2020 (arXiv 2006.09882), equations 2 and 6.
    """
    log_p = F.log_softmax(scores / temperature, dim=2)
    cross_entropy = -assignments.flatten(1) @ log_p.flatten(1).T / scores.shape[1]
    global_views, views = cross_entropy.shape
    itself = torch.eye(global_views, views, dtype=torch.bool, device=scores.device)
    return cross_entropy.masked_fill(itself, 0).sum() / (global_views * (views - 1))


class SwAV(Method):
    """SwAV with the official projection head, multi-crop and queue.

    Successive views of one size go through the backbone as one batch (BatchNorm statistics per
    size), all of them through the projection head as one. The prototypes' rows are normalised in
    place before every forward pass. Scores, assignments and loss are in float32.

    The queue holds the latest normalised embeddings of each global view on this rank, newest first.
    Once full, it joins the batch in the assignments. Every rank has its own: save each rank's
    state, and never broadcast it.

    Args:
        backbone: see `Method`.
        hidden_dim: width of the projection head's hidden layer.
        dim: width D of the embeddings.
        prototypes: number K of prototypes.
        temperature: see `swapped_prediction_loss`.
        sinkhorn_epsilon, sinkhorn_iterations: see `sinkhorn`.
        queue_length: embeddings kept per global view in total over the ranks, a multiple of their
            number; 0 for no queue. The official code takes a multiple of the total batch size.
        queue_after: images over all ranks that a run has seen before its queue takes part; it does
            not before it is full.
        global_views: how many of the first views get assignments.
        group: process group over which the batch is spread; None for the default one.
        objective: "own", or "er" for `er_of_assignments`: each global view's softmax of its scores
            and those of all other views reconstruct each other, and the entropy of the mean
            assignment takes the place of equal use by Sinkhorn's algorithm and the queue.

    Raises:
        ValueError: if a parameter is out of its range, or `queue_length` cannot be shared equally
            by the ranks.
    """

    def __init__(
        self,
        backbone: Backbone,
        hidden_dim: int = 2048,
        dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        queue_length: int = 0,
        queue_after: int = 0,
        global_views: int = 2,
        group: Group = None,
        objective: Objective = "own",
    ) -> None:
        super().__init__(objective, group=group)
        check_widths(hidden_dim=hidden_dim, dim=dim, prototypes=prototypes)
        expect_number(temperature, "temperature", above=0)
        expect_number(sinkhorn_epsilon, "sinkhorn_epsilon", above=0)
        expect_integer(sinkhorn_iterations, "sinkhorn_iterations", at_least=0)
        expect_integer(queue_length, "queue_length", at_least=0)
        expect_integer(queue_after, "queue_after", at_least=0)
        expect_integer(global_views, "global_views", at_least=1)
        if queue_length % world_size(group):
            raise InputError(
                f"SwAV's queue_length {queue_length} is not a multiple of the number of ranks, "
                f"{world_size(group)}: choose one that is."
            )
        self.backbone = backbone
        self.projector = nn.Sequential(
            *mlp(backbone.feature_dim, hidden_dim), nn.Linear(hidden_dim, dim)
        )
        self.prototypes = nn.Linear(dim, prototypes, bias=False)
        self.temperature = temperature
        self.sinkhorn_options = {
            "epsilon": sinkhorn_epsilon,
            "iterations": sinkhorn_iterations,
            "group": group,
        }
        self.global_views = global_views
        self.queue_after = queue_after
        if queue_length:
            rows = queue_length // world_size(group)
            self.register_buffer("queue", torch.zeros(global_views, rows, dim))
            self.register_buffer("queue_filled", torch.zeros((), dtype=torch.long))
            self.run_state = ("queue", "queue_filled")
            # DistributedDataParallel would overwrite every rank's queue with that of rank 0.
            self._ddp_params_and_buffers_to_ignore = self.run_state
        else:
            self.queue = None

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        expect_global(views, self.global_views, "SwAV")
        with torch.no_grad():
            self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
        features = features_by_size(self.backbone, views)
        z = at_least_float32(self.projector(features)).unflatten(0, (len(views), -1))
        with without_autocast(z):
            embeddings = F.normalize(z, dim=2)
            scores = self.prototypes(embeddings)
            return self.on_assignments(
                z.unbind(),
                lambda: self._reconstruct((scores / self.temperature).softmax(dim=2)),
                own=lambda: self._swap(embeddings, scores),
            )

    def _swap(self, embeddings: Tensor, scores: Tensor) -> LossAndTerms:
        assignments = self._assign(embeddings[: self.global_views].detach())
        loss = swapped_prediction_loss(scores, assignments, temperature=self.temperature)
        return single_term("swav", loss)

    def _reconstruct(self, p: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """The global views' part of ``(V, N, K)`` assignments, and the error of all pairs."""
        first = p[: self.global_views].unbind()
        errors = [
            reconstruction(p[i], p[v], support="discrete")
            for i in range(len(first))
            for v in range(len(p))
            if v != i
        ]
        return first, torch.stack(errors).mean()

    @torch.no_grad()
    def _assign(self, embeddings: Tensor) -> Tensor:
        """Return the ``(G, N, K)`` assignments of normalised ``(G, N, D)`` embeddings.

        The old queue takes part if it is full; then the embeddings enter the queue.
        """
        batch = embeddings.shape[1]
        joint = embeddings
        if self.queue is not None:
            rows = self.queue.shape[1]
            shifted = torch.cat([embeddings, self.queue], dim=1)[:, :rows]
            if self.queue_filled >= max(rows, self.queue_after / world_size(self.group)):
                joint = torch.cat([self.queue, embeddings], dim=1)
            if self.training:
                self.queue.copy_(shifted)
                self.queue_filled += batch
        scores = self.prototypes(joint)
        return torch.stack([sinkhorn(s, **self.sinkhorn_options)[-batch:] for s in scores])
