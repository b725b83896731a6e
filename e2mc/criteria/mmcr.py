"""MMCR: maximum manifold capacity representations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, gather
from e2mc.errors import expect_number


class MMCR(Criterion):
    """Large nuclear norm of the matrix of centroids.

    The centroid of an image is the mean of its V l2-normalised embeddings, not normalised again:

        loss = -weight * || 1/V sum_v z_v / |z_v| ||_*

    The norm grows with the batch, up to sqrt(N min(N, D)); at weight 1 it outweighs most losses.

    Args:
        weight: >= 0.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        nuclear_norm: sum of the singular values.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised: all views, local crops included.

    Under DDP each rank gathers the centroids and repeats the decomposition. The gradient passes
    through `gather`, unlike upstream MMCR's, which is local. See `Criterion` for mixed precision
    and torch.compile. The gradient is finite but arbitrary where a singular value is 0.

    Complexity: O(N D min(N, D)), a singular value decomposition.

    Reference: Yerxa et al., 2023 (arXiv 2303.03307), without its local term, as added to SwAV in
    arXiv 2411.15931.
    """

    views = "all"

    def __init__(
        self, weight: float = 1.0, group: Group = None, *, check_finite: bool = True
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        self.weight = weight

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        centroids = torch.stack([normalize(z) for z in views]).mean(dim=0)
        norm = torch.linalg.matrix_norm(gather(centroids, self.group, sizes), ord="nuc")
        return {"nuclear_norm": (-self.weight, norm)}
