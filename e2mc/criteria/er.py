"""ER: entropy and reconstruction, the two terms of a lower bound on mutual information.

What it is made of, the functions of `e2mc.sphere`, can be imported from here too.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from e2mc.criteria.base import Criterion, Terms
from e2mc.distributed import Group, world_size
from e2mc.errors import InputError, expect_number
from e2mc.sphere import (
    EPSILON,
    ESTIMATORS,
    SUPPORTS,
    Estimator,
    check_options,
    entropy,
    estimate,
    log_normaliser,
    reconstruction,
    surprisals,
)

__all__ = [
    "EPSILON",
    "ER",
    "ESTIMATORS",
    "SUPPORTS",
    "Estimator",
    "check_options",
    "entropy",
    "estimate",
    "log_normaliser",
    "reconstruction",
    "surprisals",
]


class ER(Criterion):
    """High entropy of the embeddings on the unit sphere and, if wanted, low reconstruction error.

    Over V views of l2-normalised embeddings e_v, with `entropy` and `reconstruction` as in
    `e2mc.sphere`:

        loss = reconstruction_weight * mean_{v < w} reconstruction(e_v, e_w)
             - entropy_weight * 1/V sum_v entropy(e_v)

    The entropy term alone is an add-on to another loss. With both weights 1 the loss is the
    negative of a bound on the mutual information of two views, and an objective in itself: the
    methods' parameter `objective: er` takes it in place of their own.

    Args:
        entropy_weight: >= 0.
        reconstruction_weight: >= 0.
        kappa: > 0, concentration of kernel and reconstruction.
        estimator: "plug-in" or "joe", see `entropy`.
        leave_one_out: see `entropy`.
        learnable_kappa: make the logarithm of kappa a parameter that starts at `kappa`. The
            entropy alone is highest at kappa = 0, hence both weights must be positive.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        entropy: mean over the views, in nats.
        reconstruction: mean error over the pairs of views, in nats; not there for a single view.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised.

    Under DDP each rank compares its own rows with the gathered batch; see `Criterion` for
    gradients, mixed precision and torch.compile. The gradient of a learnable kappa is that of the
    joint batch on every rank.

    Complexity: per view O(N_r N D) time, N_r N memory.

    Reference: Rodríguez-Gálvez et al., 2023 (arXiv 2307.10907); official code
    github.com/apple/ml-entropy-reconstruction, whose constant is corrected here (see
    `e2mc.sphere.log_normaliser`).
    """

    def __init__(
        self,
        entropy_weight: float = 1.0,
        reconstruction_weight: float = 0.0,
        kappa: float = 10.0,
        estimator: Estimator = "plug-in",
        leave_one_out: bool = False,
        learnable_kappa: bool = False,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(entropy_weight, "entropy_weight", at_least=0)
        expect_number(reconstruction_weight, "reconstruction_weight", at_least=0)
        expect_number(kappa, "kappa", above=0)
        check_options(kappa, estimator)
        if learnable_kappa and not (entropy_weight > 0 and reconstruction_weight > 0):
            raise InputError(
                "a learnable kappa needs positive entropy_weight and reconstruction_weight, found "
                f"{entropy_weight} and {reconstruction_weight}: one term alone drives it to its end"
            )
        self.entropy_weight = entropy_weight
        self.reconstruction_weight = reconstruction_weight
        self.estimator = estimator
        self.leave_one_out = leave_one_out
        self.fixed_kappa = kappa
        self.log_kappa = nn.Parameter(torch.tensor(math.log(kappa))) if learnable_kappa else None

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        kappa = self._kappa()
        spheres = [normalize(z) for z in views]
        entropies = [
            entropy(
                e,
                kappa,
                self.estimator,
                leave_one_out=self.leave_one_out,
                sizes=sizes,
                group=self.group,
            )
            for e in spheres
        ]
        terms = {"entropy": (-self.entropy_weight, torch.stack(entropies).mean())}
        pairs = list(combinations(spheres, 2))
        if pairs:
            # a rank without rows has no mean
            sums = torch.stack([(e * f).sum() for e, f in pairs])
            cosine = self.total(sums).mean() / sum(sizes)
            error = log_normaliser(kappa, views[0].shape[1]) - kappa * cosine
            terms["reconstruction"] = (self.reconstruction_weight, error.to(cosine.dtype))
        return terms

    def _kappa(self) -> float | Tensor:
        if self.log_kappa is None:
            return self.fixed_kappa
        # The mean over the ranks is kappa itself; its gradient is that of the joint batch.
        return self.total(self.log_kappa).div(world_size(self.group)).exp()
