"""What an add-on criterion's own term is on embeddings, and on those that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from e2mc.criteria import create_criterion


def leading_term(
    name: str, params: dict[str, Any], views: Sequence[Tensor], global_views: int
) -> dict[str, Any]:
    """The first term of a criterion on embeddings, and on its ideal ones, the same in every view.

    There are as many ideal ones as embeddings, so that an estimate is off by the same for both.

    Args:
        name: key of ``CRITERIA``.
        params: of the criterion.
        views: (N, D) embeddings of every view of N images, the global views first.
        global_views: how many there are.

    Returns:
        "term", its name; "value" before weighting; "ideal".
    """
    criterion = create_criterion(name, **params).eval()
    wanted = list(views if criterion.views == "all" else views[:global_views])
    rows, width = wanted[0].shape
    ideal = criterion.ideal_embeddings(rows, width, torch.Generator().manual_seed(0))
    term, (_, value) = next(iter(criterion.weighted_terms(wanted).items()))
    _, best = criterion.weighted_terms([ideal] * len(wanted))[term]
    return {"term": term, "value": float(value), "ideal": float(best)}
