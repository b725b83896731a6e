"""Coding rate: embeddings that take many bits to describe."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, exchange_columns
from e2mc.errors import expect_number


class CodingRate(Criterion):
    """Large coding rate of the l2-normalised embeddings.

    Over V views, with the (N, D) matrix E_v of the unit rows of the joint batch, not centred:

        loss = -weight * 1/V sum_v 1/2 log det( I + D / (N distortion) E_v^T E_v )

    the nats that it takes to code a row up to a squared error of `distortion`, were the rows
    normal. It is at most min(N, D)/2 log(1 + D / (min(N, D) distortion)), where the rows fill all
    directions alike.

    Args:
        weight: >= 0. The rate grows with D; SimDINO's code multiplies it by (N + D) / (N D),
            which here is part of the weight.
        distortion: > 0, epsilon^2 in the papers.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        coding_rate: mean over the views, in nats.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks.

    Under DDP ranks sum the smaller Gram matrix of the two and repeat its determinant; see
    `Criterion` for gradients, mixed precision and torch.compile.

    Complexity: per view O(N D min(N, D)) over the W ranks and O(min(N, D)^3) on each.

    Reference: Yu, Chan, You, Song, Ma, MCR^2, 2020 (arXiv 2006.08558), the rate R(Z, epsilon); as
    a regulariser of views Wu et al., "SimDINO", 2025 (arXiv 2502.10385). Read were the authors'
    public code (github.com/RobinWu218/SimDINO, `calc_expansion`: unit rows, not centred, 0.5 for
    epsilon^2, the average over views) and lightly's documentation of `tcr_loss`, the same rate;
    the text of SimDINO's paper, which writes a covariance, was not at hand.
    """

    def __init__(
        self,
        weight: float = 1.0,
        distortion: float = 0.5,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(weight, "weight", at_least=0)
        expect_number(distortion, "distortion", above=0)
        self.weight = weight
        self.distortion = distortion

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        n, d = sum(sizes), views[0].shape[1]
        identity = torch.eye(min(n, d), dtype=views[0].dtype, device=views[0].device)
        rates = []
        for z in views:
            e = normalize(z)
            # det(I + A^T A) = det(I + A A^T): columns of all rows, or rows, whichever are fewer
            block = exchange_columns(e, sizes, self.group).T if n < d else e
            gram = self.total(block.T @ block)
            rates.append(torch.logdet(identity + d / (n * self.distortion) * gram) / 2)
        return {"coding_rate": (-self.weight, torch.stack(rates).mean())}
