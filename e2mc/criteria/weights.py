"""First weights for the terms of a criterion, without a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from e2mc.distributed import Group, all_reduce_sum
from e2mc.errors import InputError


def balanced_weights(
    terms: Mapping[str, Tensor],
    loss: Tensor,
    parameters: Iterable[nn.Parameter],
    group: Group = None,
) -> dict[str, float]:
    """Weights with which each term pulls at the parameters as hard as a loss does.

        weight = || d loss / d parameters || / || d term / d parameters ||

    Args:
        terms: name -> scalar with gradient, before weighting.
        loss: scalar with gradient, of the same batch; all graphs are kept.
        parameters: what is trained; those that a term does not reach count as 0.
        group: ranks that share the batch, whose gradients are added.

    Returns:
        Name -> weight, above 0.

    Raises:
        InputError: when the loss or a term has no gradient, or one that is 0 or not finite.
    """
    chosen = [parameter for parameter in parameters if parameter.requires_grad]
    if not chosen:
        raise InputError("none of the parameters is trained: pass those of the model in training")
    norms = {
        name: _norm(name, value, chosen, group) for name, value in {"loss": loss, **terms}.items()
    }
    return {name: norms["loss"] / norms[name] for name in terms}


def _norm(name: str, value: Tensor, parameters: list[nn.Parameter], group: Group) -> float:
    if not value.requires_grad:
        raise InputError(f"{name} has no gradient: compute it outside of torch.no_grad()")
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    whole = [all_reduce_sum(gradient, group) for gradient in found if gradient is not None]
    norm = float(torch.stack([x.double().norm() for x in whole]).norm()) if whole else 0.0
    if not 0 < norm < float("inf"):
        raise InputError(
            f"the gradient of {name} has the norm {norm:g}, expected a positive number: take a "
            "batch of different images, and parameters that the embeddings depend on"
        )
    return norm
