"""E2MC: effective entropy maximisation of embeddings in the unit cube."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from e2mc.criteria.base import Criterion, Terms
from e2mc.criteria.weights import balanced_weights
from e2mc.distributed import Group, exchange_columns
from e2mc.entropy import MAPPINGS, mapped_entropy
from e2mc.errors import InputError, expect_integer, expect_known, expect_number

DEAD = 1e-3  # standard deviation of a coordinate, relative to the largest, up to which it is dead


class E2MC(Criterion):
    """High entropy of each embedding coordinate, low covariance between them.

    A map F takes each view's embeddings to the unit cube, u = F(z), where the uniform law has the
    highest entropy and independent coordinates make it the joint one. Over V views, with H and cov
    as in `e2mc.entropy.marginal_entropy` and `offdiagonal_covariance`:

        loss = covariance_weight * sum_v cov(u_v) - entropy_weight * 1/V sum_v mean_d H_d(u_v)

    (entropies averaged over the views, covariances summed, as in the official code).

    Args:
        entropy_weight: >= 0. The defaults of both weights are the paper's for VICReg and SwAV on
            ImageNet; beside another loss, or at another scale of it, `suggest_weights` has a start.
        covariance_weight: >= 0; beyond about 10 times the entropy weight, embeddings shrink
            instead of decorrelating.
        mapping: "normal", the normal distribution function, or "logistic", which suits embeddings
            of standard deviation well above 1.
        window: m of the m-spacings, from 1 to N - 1; None means round(sqrt(N)).
        epsilon: >= 0, added to the scaled spacings; above 0 the loss is always finite.
        batch_size: covariances are divided by batch_size - 1; None means the size N of the batch
            at hand. The official code uses the nominal size, also for a smaller last batch.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Terms:
        entropy: mean over views and coordinates, in nats; near 0 is uniform.
        covariance: summed over the views.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, not normalised; N >= 2 over all ranks. Use
        N >= 256: at N = 64 entropy gradients of two batches have hardly a common direction.

    Gradient: at most (N+1) / (m (N-m) epsilon) times the density of F for one entropy. It comes
    near that, and is shared arbitrarily, where more than m values of a column are equal.

    Under DDP each rank sorts D/W columns of the joint batch; see `Criterion` for gradients, mixed
    precision and torch.compile.

    Complexity: per view O(D N log N + N D min(N, D)), over the W ranks; two (N, D) tensors are
    kept beside the embeddings for the backward pass, and no D x D matrix is made where N < D.

    Reference: Chakraborty et al., 2024 (arXiv 2411.15931); official code github.com/deepc94/e2mc,
    `get_ent_and_cov_loss`.

    Example:
        >>> model = torch.nn.Linear(8, 64)
        >>> z1, z2 = model(torch.randn(256, 8)), model(torch.randn(256, 8))
        >>> loss = (z1 - z2).square().mean()  # your own
        >>> weights = E2MC().suggest_weights(z1, z2, loss=loss, parameters=model.parameters())
        >>> criterion = E2MC(**weights)
        >>> loss = loss + criterion(z1, z2).loss
    """

    def __init__(
        self,
        entropy_weight: float = 10.0,
        covariance_weight: float = 1.0,
        mapping: Literal["normal", "logistic"] = "normal",
        window: int | None = None,
        epsilon: float = 2**-23,
        batch_size: int | None = None,
        group: Group = None,
        *,
        check_finite: bool = True,
    ) -> None:
        super().__init__(group, check_finite)
        expect_number(entropy_weight, "entropy_weight", at_least=0)
        expect_number(covariance_weight, "covariance_weight", at_least=0)
        expect_known(mapping, MAPPINGS, "mapping")
        if window is not None:
            expect_integer(window, "window", at_least=1)
        expect_number(epsilon, "epsilon", at_least=0)
        if batch_size is not None:
            expect_integer(batch_size, "batch_size", at_least=2)
        self.entropy_weight = entropy_weight
        self.covariance_weight = covariance_weight
        self.mapping = mapping
        self.window = window
        self.epsilon = epsilon
        self.batch_size = batch_size

    def suggest_weights(
        self, *embeddings: Tensor, loss: Tensor, parameters: Iterable[nn.Parameter]
    ) -> dict[str, float]:
        """First weights without a sweep: both terms pull as hard as the loss they are added to.

        Each weight is `balanced_weights`' ||d loss|| / ||d term||, and the covariance's at most the
        entropy's, beyond which embeddings shrink before their entropy rises. Coordinates that are
        constant are left out. A start, no optimum:
        the mean over a few batches of the first epoch; then look whether the entropy rises.

        Args:
            embeddings: one (N_r, D) tensor per view, with gradient; see the class.
            loss: scalar of your own training, of the same batch.
            parameters: of the model in training.

        Returns:
            "entropy_weight" and "covariance_weight", to pass to a new `E2MC`.

        Raises:
            InputError: when a gradient is 0 or not finite, see `balanced_weights`.

        See `E2MC` for an example.
        """
        self._check_views(embeddings)
        alive = self._alive(embeddings)
        if not alive.any():
            raise InputError(
                "every coordinate of the embeddings is constant in one of the views: pass a batch "
                "of different images, and embeddings of a model that tells them apart"
            )
        of_alive = self.weighted_terms([z[:, alive] for z in embeddings])
        terms = {name: term for name, (_, term) in of_alive.items()}
        found = balanced_weights(terms, loss, parameters, self.group)
        return {
            "entropy_weight": found["entropy"],
            "covariance_weight": min(found["covariance"], found["entropy"]),
        }

    def _alive(self, views: Sequence[Tensor]) -> Tensor:
        """Bool (D,): coordinates that are not constant, or nearly, in any view of the joint batch.

        The gradient of a dead one's entropy is beyond that of all others.
        """
        wide = [z.detach().double() for z in views]
        sums = torch.stack([torch.stack((z**0, z, z**2)).sum(dim=1) for z in wide])
        count, first, second = self.total(sums).unbind(dim=1)
        deviation = (second / count - (first / count) ** 2).clamp(min=0).sqrt()
        return (deviation > DEAD * deviation.amax(dim=1, keepdim=True)).all(dim=0)

    def ideal_embeddings(self, rows: int, width: int, generator: torch.Generator) -> Tensor:
        """(N, D) embeddings whose image in the unit cube is uniform."""
        if self.mapping == "logistic":
            return torch.logit(torch.rand(rows, width, generator=generator), eps=2**-24)
        return super().ideal_embeddings(rows, width, generator)

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        entropy = covariance = views[0].new_zeros(())
        for z in views:
            columns = exchange_columns(z, sizes, self.group)
            entropies = mapped_entropy(
                columns, self.mapping, window=self.window, epsilon=self.epsilon
            )
            entropy = entropy + self.total(entropies.sum()) / (z.shape[1] * len(views))
            covariance = covariance + self.covariance(
                z, columns, sizes, MAPPINGS[self.mapping], self.batch_size
            )
        return {
            "entropy": (-self.entropy_weight, entropy),
            "covariance": (self.covariance_weight, covariance),
        }
