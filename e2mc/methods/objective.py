"""ER as a method's whole objective, in place of its own loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from e2mc.distributed import Group
from e2mc.errors import expect_known, expect_number
from e2mc.sphere import entropy, reconstruction

Objective = Literal["own", "er"]


def check_objective(objective: str, kappa: float) -> None:
    """Raise ValueError unless the objective is known and kappa positive."""
    expect_known(objective, get_args(Objective), "objective")
    expect_number(kappa, "kappa", above=0)


def er_on_sphere(
    embeddings: Sequence[Tensor],
    pairs: Sequence[tuple[Tensor, Tensor]],
    kappa: float,
    group: Group = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction error less entropy of l2-normalised embeddings.

    ``mean over pairs of reconstruction(e, f) - mean over embeddings of entropy(e)``

    Args:
        embeddings: ``(N, D)`` per view, not normalised: those whose entropy is wanted high.
        pairs: ``(N, D)`` predictions and what they shall reconstruct, not normalised.
        kappa: concentration of the von Mises-Fisher kernels.
        group: process group over which the batch is spread; None for the default one.

    Returns:
        The loss, in nats, and the detached terms "er_entropy" and "er_reconstruction".

    Source: Rodríguez-Gálvez et al., 2023 (arXiv 2307.10907), section 4.
    """
    entropies = [entropy(F.normalize(z), kappa, group=group) for z in embeddings]
    errors = [reconstruction(F.normalize(p), F.normalize(z), kappa) for p, z in pairs]
    return _bound(torch.stack(entropies).mean(), torch.stack(errors).mean())


def er_of_assignments(
    assignments: Sequence[Tensor], error: Tensor, group: Group = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction error less entropy of soft assignments to clusters.

    Args:
        assignments: ``(N, K)`` probabilities per view, whose mean over the batch shall have a high
            entropy.
        error: cross-entropy of the assignments to reconstruct and their predictions.
        group: process group over which the batch is spread; None for the default one.

    Returns:
        The loss, in nats, and the detached terms "er_entropy" and "er_reconstruction".

    Source: Rodríguez-Gálvez et al., 2023 (arXiv 2307.10907), section 4.
    """
    entropies = [entropy(p, support="discrete", group=group) for p in assignments]
    return _bound(torch.stack(entropies).mean(), error)


def _bound(value: Tensor, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return error - value, {"er_entropy": value.detach(), "er_reconstruction": error.detach()}
