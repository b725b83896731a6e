"""DeepCluster-v2: predicting the k-means clusters of a memory bank (Caron et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2mc.distributed import Group, gather
from e2mc.errors import InputError, expect_integer, expect_number
from e2mc.methods.base import (
    Batches,
    Method,
    MethodOutput,
    check_list_of_widths,
    check_widths,
    joint_embeddings,
    mlp,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone

BLOCK = 2**16  # rows compared with the centroids at a time


@torch.no_grad()
def spherical_kmeans(
    points: Tensor, clusters: int, *, iterations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Clusters of points on the unit sphere.

    From random points as centroids, alternately assigns each point to the centroid of the highest
    cosine and moves each centroid to the normalised mean of its points; one without points stays.

    Args:
        points: ``(N, D)`` of unit length.
        clusters: K, at most N.
        iterations: how often the centroids move; 0 assigns to the random points.
        generator: of the CPU; it draws the first centroids.

    Returns:
        ``(K, D)`` centroids of unit length, and ``(N,)`` int64 assignments to them.

    Raises:
        ValueError: if there are fewer points than clusters.

    Source: Caron et al., 2020 (arXiv 2006.09882), official function cluster_memory.
    """
    if not clusters <= len(points):
        raise InputError(
            f"k-means wants {clusters} clusters of {len(points)} points: use fewer prototypes."
        )
    first = torch.randperm(len(points), generator=generator, device=generator.device)[:clusters]
    centroids = points[first.to(points.device)]
    for _ in range(iterations):
        assignments = _nearest(points, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, assignments, points)
        used = assignments.bincount(minlength=clusters) > 0
        centroids = torch.where(used[:, None], F.normalize(sums), centroids)
    return centroids, _nearest(points, centroids)


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    return torch.cat([(block @ centroids.T).argmax(dim=1) for block in points.split(BLOCK)])


class DeepCluster(Method):
    """DeepCluster-v2 with multi-crop.

    A memory bank holds the latest normalised embedding of every image in each global view. At the
    start of an epoch each head's centroids are those of spherical k-means on one view's bank (the
    heads take the views in turn), and every image gets its cluster in each head. The embeddings of
    all views predict it by a softmax of their cosines with the centroids, which no gradient
    reaches; the loss is the mean cross-entropy over views and heads. A new run first fills the bank
    in a pass over the images without learning.

    The projection head is SwAV's: Linear, BatchNorm, ReLU, Linear. Every rank holds the whole bank,
    ``global_views x images x dim`` numbers, and clusters it.

    Args:
        backbone: see `Method`.
        hidden_dim: width of the projection head's hidden layer.
        dim: width D of the embeddings.
        prototypes: number of clusters of each head.
        temperature: of the softmax, positive.
        iterations: of k-means.
        objective: "own", or "er" for `er_of_assignments`: besides, a high entropy of the mean
            prediction of the global views.
        global_views: how many of the first views are remembered.
        group: process group over which the batch is spread; None for the default one.

    Raises:
        ValueError: if a parameter is out of its range.
    """

    bank: Tensor
    assignments: Tensor

    def __init__(
        self,
        backbone: Backbone,
        hidden_dim: int = 2048,
        dim: int = 128,
        prototypes: tuple[int, ...] = (3000, 3000, 3000),
        temperature: float = 0.1,
        iterations: int = 10,
        objective: Objective = "own",
        global_views: int = 2,
        group: Group = None,
    ) -> None:
        super().__init__(objective, group=group)
        check_widths(hidden_dim=hidden_dim, dim=dim)
        check_list_of_widths(prototypes, "prototypes")
        expect_number(temperature, "temperature", above=0)
        expect_integer(iterations, "iterations", at_least=0)
        expect_integer(global_views, "global_views", at_least=1)
        self.backbone = backbone
        self.projector = nn.Sequential(
            *mlp(backbone.feature_dim, hidden_dim), nn.Linear(hidden_dim, dim)
        )
        self.prototypes = tuple(prototypes)
        for head, count in enumerate(self.prototypes):
            self.register_buffer(f"centroids{head}", torch.zeros(count, dim))
        self.dim = dim
        self.temperature = temperature
        self.iterations = iterations
        self.global_views = global_views
        self.indices: Tensor | None = None

    def begin_run(self, images: int) -> None:
        like = self.get_buffer("centroids0")
        self.register_buffer("bank", like.new_zeros(self.global_views, images, self.dim))
        assignments = like.new_zeros(len(self.prototypes), images, dtype=torch.long)
        self.register_buffer("assignments", assignments)
        self.run_state = ("bank", "assignments")
        # The same on every rank without DistributedDataParallel's broadcast.
        self._ddp_params_and_buffers_to_ignore = self.run_state

    @torch.no_grad()
    def begin_epoch(self, generator: torch.Generator, batches: Batches) -> None:
        if not self.bank.any():
            for indices, views in batches():
                self._remember(
                    indices, F.normalize(torch.stack(self.embed(self._global(views))), dim=2)
                )
        for head, count in enumerate(self.prototypes):
            centroids, self.assignments[head] = spherical_kmeans(
                self.bank[head % self.global_views],
                count,
                iterations=self.iterations,
                generator=generator,
            )
            self.get_buffer(f"centroids{head}").copy_(centroids)

    def begin_step(self, indices: Tensor) -> None:
        self.indices = indices.to(self.bank.device)

    def embed_batch(self, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the embeddings of each view, all of which pass the head as one batch."""
        return joint_embeddings(self, views).unbind()

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        self._global(views)
        if self.indices is None:
            raise RuntimeError(
                "DeepCluster does not know which images it sees: call begin_run, begin_epoch and "
                "begin_step before a batch."
            )
        z = joint_embeddings(self, views)
        with without_autocast(z):
            embeddings = F.normalize(z, dim=2)
            heads = range(len(self.prototypes))
            logits = [
                embeddings @ self.get_buffer(f"centroids{head}").T / self.temperature
                for head in heads
            ]
            targets = self.assignments[:, self.indices].repeat(1, len(views))
            errors = [F.cross_entropy(logits[h].flatten(0, 1), targets[h]) for h in heads]
            error = torch.stack(errors).mean()
            output = self.on_assignments(
                z.unbind(),
                lambda: (self._predictions(logits), error),
                own=lambda: single_term("deepcluster", error),
            )
        if self.training:
            self._remember(self.indices, embeddings[: self.global_views].detach())
        return output

    def _predictions(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Of each head and each global view."""
        shown = [p.softmax(dim=2) for p in logits]
        return [v for p in shown for v in p[: self.global_views]]

    def _global(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        if len(views) < self.global_views:
            raise InputError(
                f"DeepCluster needs {self.global_views} global views, found {len(views)}."
            )
        return views[: self.global_views]

    @torch.no_grad()
    def _remember(self, indices: Tensor, embeddings: Tensor) -> None:
        """Put ``(G, N, D)`` embeddings of this rank's images into every rank's bank."""
        rows = gather(embeddings.transpose(0, 1).contiguous(), self.group)
        self.bank[:, gather(indices.to(rows.device), self.group)] = rows.transpose(0, 1)
