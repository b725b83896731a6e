"""A control of E2MC: pushes as long as its gradient, in a random direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from e2mc.criteria.base import Terms
from e2mc.criteria.e2mc import E2MC
from e2mc.criteria.sliced import SlicedCriterion, random_directions
from e2mc.distributed import Group, rank, world_size
from e2mc.entropy import transformed


class RandomDirection(SlicedCriterion):
    """E2MC's gradient by the embeddings, turned into a random direction: its length stays.

    A control: what it does to a model is what any push of that size does. At the parameters it is
    shorter than E2MC's, since pushes of embeddings in no common direction partly cancel. With G the
    gradient of E2MC's loss by all embeddings of the joint batch, and a a unit vector drawn
    uniformly in the space of these embeddings (V N D numbers), a new one in every step:

        gradient by z = ||G|| a
        loss          = stopped(||G||) (1 + a . (z - stopped(z)))

    No gradient passes through `stopped`: the gradient is not that of the loss's value, which is
    ||G||, and second derivatives are 0. Under torch.compile there is one graph break.

    Args:
        entropy_weight, covariance_weight, mapping, window, epsilon, batch_size: those of `E2MC`,
            whose gradient is measured.
        group: ranks that share a batch; None means all.
        check_finite: see `Criterion`.

    Buffers (saved with the state dict, and resumed from it):
        step: how many batches there were in training mode; it decides the direction.

    Terms:
        entropy, covariance: E2MC's terms at these embeddings; without weight in the loss, which
            does not improve them.
        gradient_norm: ||G||, the loss itself.

    Shape:
        criterion(z_1, ..., z_V), (N_r, D) each, as for `E2MC`.

    Under DDP all ranks draw the direction of the joint batch and take their rows of it; see
    `Criterion` for mixed precision.

    Complexity: E2MC's with its backward pass, in the forward pass; O(V N D) for the direction.
    """

    views = "global"  # type: ignore[assignment]

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
        super().__init__(1, group, check_finite)
        self.e2mc = E2MC(
            entropy_weight, covariance_weight, mapping, window, epsilon, batch_size, group
        )
        # the compiler does not know torch.autograd.grad: it leaves its graph for this one call.
        # As a decorator this would load it, a second, wherever criteria are imported
        self._gradient = torch.compiler.disable(_gradient)

    def ideal_embeddings(self, rows: int, width: int, generator: torch.Generator) -> Tensor:
        """(N, D) embeddings that E2MC asks for, whose entropy is the first term."""
        return self.e2mc.ideal_embeddings(rows, width, generator)

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        def loss(z: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            terms = self.e2mc.compute(list(z.unbind()), sizes)
            weighted = torch.stack([weight * term for weight, term in terms.values()]).sum()
            return weighted, (terms["entropy"][1], terms["covariance"][1])

        z = torch.stack(views)
        gradient, (entropy, covariance) = self._gradient(loss, z.detach())
        # between ranks it is that of the sum of their losses, which are all the same
        norm = self.total(gradient.square().sum()).sqrt() / world_size(self.group)
        count, n, d = len(views), sum(sizes), z.shape[2]
        joint = random_directions(count * n * d, 1, self.next_step(views)).view(count, n, d)
        direction = joint.split(sizes, dim=1)[rank(self.group)].to(z)
        along = self.total((direction * z).sum())
        return {
            "entropy": (0.0, entropy.detach()),
            "covariance": (0.0, covariance.detach()),
            "gradient_norm": (1.0, norm.detach() * (1 + along - along.detach())),
        }


def _gradient(
    function: Callable[[Tensor], tuple[Tensor, tuple[Tensor, Tensor]]], z: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The gradient of a function's first value, and its other values, as ``torch.func.grad``."""
    if transformed():
        return torch.func.grad(function, has_aux=True)(z)
    # activation checkpointing has hooks, and would repeat this call within itself
    with torch.enable_grad(), saved_tensors_hooks(_same, _same):
        z = z.requires_grad_()
        value, others = function(z)
        return torch.autograd.grad(value, z)[0], others


def _same(x: Tensor) -> Tensor:
    return x
