"""KoLeo: embeddings that keep away from their nearest neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, gather, rank
from e2mc.errors import expect_number


class KoLeo(Criterion):
    """Large distance of each embedding from its nearest neighbour on the unit hypersphere.

    Over V views, with the l2-normalised embeddings e_v of the joint batch:

        loss = -weight * 1/V sum_v 1/N sum_n log( min_{m != n} |e_vn - e_vm| + epsilon )

    which is the entropy estimate of Kozachenko and Leonenko, up to constants.

    Args:
        weight: >= 0; DINOv2 takes 0.1.
        epsilon: > 0, keeps the logarithm finite where embeddings are equal.
        group: ranks that share a batch; None means all. DINOv2 looks for neighbours among the
            embeddings of one rank alone.
        check_finite: see `Criterion`.

    Terms:
        log_distance: mean over rows and views.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks.

    Gradient: bounded by 1 / epsilon; 0 between equal embeddings, arbitrary between neighbours at
    equal distance.

    Under DDP each rank compares its own rows with the gathered batch; see `Criterion` for
    gradients, mixed precision and torch.compile.

    Complexity: per view O(N_r N D) time, N_r N memory.

    Reference: Sablayrolles, Douze, Schmid, Jégou, "Spreading vectors for similarity search", 2019
    (arXiv 1806.03198), equation of L_KoLeo; l2-normalised and with epsilon as in DINOv2 (Oquab et
    al., 2023, arXiv 2304.07193), in the form that lightly's documentation of `KoLeoLoss` gives.
    """

    def __init__(
        self,
        weight: float = 0.1,
        epsilon: float = 1e-8,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_number(epsilon, "epsilon", above=0)
        self.weight = weight
        self.epsilon = epsilon

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        value = views[0].new_zeros(())
        for z in views:
            own = normalize(z)
            every = gather(own, self.group, sizes)
            distances = torch.linalg.vector_norm(
                own - every[self._nearest(own, every, sizes)], dim=1
            )
            value = value + self.total((distances + self.epsilon).log().sum())
        return {"log_distance": (-self.weight, value / (sum(sizes) * len(views)))}

    def _nearest(self, own: Tensor, every: Tensor, sizes: list[int]) -> Tensor:
        """Position in the joint batch of each own row's nearest neighbour."""
        first = sum(sizes[: rank(self.group)])
        positions = torch.arange(len(every), device=own.device)
        itself = positions[first : first + len(own), None] == positions
        cosines = own.detach() @ every.detach().T
        return cosines.masked_fill(itself, -math.inf).argmax(dim=1)
