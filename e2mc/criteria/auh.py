"""AUH: uniformity on the hypersphere."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, gather
from e2mc.errors import expect_number


def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs of rows.

        log mean_{i < j} exp(-t |x_i - x_j|^2)

    Args:
        x: (N, D) with N >= 2, usually of unit rows.
        t: > 0.

    Returns:
        A scalar; lower is more uniform.

    Complexity: O(N^2 D) time, N^2 memory.

    Source: Wang, Isola, 2020 (arXiv 2005.10242), section 4.1.
    """
    n = x.shape[0]
    squares = x.square().sum(dim=1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    self_pairs = torch.eye(n, dtype=torch.bool, device=x.device)
    exponents = (-t * distances).masked_fill(self_pairs, -math.inf)
    return exponents.flatten().logsumexp(dim=0) - math.log(n * (n - 1))


class AUH(Criterion):
    """Embeddings spread uniformly over the unit hypersphere.

    Over V views, with the l2-normalised embeddings e_v and `uniformity` as above:

        loss = weight * 1/V sum_v log mean_{i < j} exp(-t |e_vi - e_vj|^2)

    Args:
        weight: >= 0.
        t: > 0, inverse width of the potential.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        uniformity: mean over the views.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks.

    Under DDP each rank gathers the embeddings and repeats the N^2 pairs; see `Criterion` for
    gradients, mixed precision and torch.compile.

    Complexity: per view O(N^2 D) time, N^2 memory.

    Reference: Wang, Isola, 2020 (arXiv 2005.10242), section 4.1, as added to SwAV in
    arXiv 2411.15931.
    """

    def __init__(
        self,
        weight: float = 1.0,
        t: float = 3.0,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_number(t, "t", above=0)
        self.weight = weight
        self.t = t

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        spheres = [gather(normalize(z), self.group, sizes) for z in views]
        value = torch.stack([uniformity(e, self.t) for e in spheres]).mean()
        return {"uniformity": (self.weight, value)}
