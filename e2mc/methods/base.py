"""What every base method shares: its output, its interface, and how losses leave autocast."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class MethodOutput(NamedTuple):
    """What one forward pass of a method gives.

    Attributes:
        loss: scalar in float32 or better, with gradient.
        embeddings: one ``(N, D)`` tensor per view, in the order of the views, not normalised, with
            gradient: what an add-on criterion sees.
        terms: the parts of the loss before weighting, detached, under names that begin with the
            method's, so that they never meet those of an add-on criterion.
    """

    loss: Tensor
    embeddings: tuple[Tensor, ...]
    terms: dict[str, Tensor]


class Method(nn.Module):
    """A self-supervised method: views of the same images in, loss and embeddings out.

    Attributes:
        backbone: module from images ``(N, C, H, W)`` to features ``(N, backbone.feature_dim)``.
        global_views: how many of the first views are global crops; the others are local crops.
        run_state: names of the state-dict entries that belong to a run and not to the model, such
            as a queue. A resumed run needs them, a continued run starts without them.
    """

    backbone: nn.Module
    global_views: int = 2
    run_state: tuple[str, ...] = ()

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        """Compute the loss of one batch.

        Args:
            views: one ``(N, C, H, W)`` tensor per view, row i of each showing image i; the global
                views first.

        Raises:
            ValueError: if the number of views is not what the method wants.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[dict]:
        """Return the trainable parameters as optimizer groups with keys "name" and "params"."""
        return [{"name": "all", "params": trainable(self)}]


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of `module` that are not frozen."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def mlp(*widths: int, bias: bool = True) -> list[nn.Module]:
    """Return the layers Linear, BatchNorm1d, ReLU between each two successive `widths`."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [
            nn.Linear(width_in, width_out, bias=bias),
            nn.BatchNorm1d(width_out),
            nn.ReLU(inplace=True),
        ]
    return layers


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 if it came out of autocast in half precision, else `x` itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which operations keep the precision of their inputs, on x's device."""
    return torch.autocast(x.device.type, enabled=False)


def expect_two(views: Sequence[Tensor], method: str) -> Sequence[Tensor]:
    """Return `views` if they are two, as methods that compare a pair need."""
    if len(views) != 2:
        raise ValueError(f"{method} compares two views of each image, but got {len(views)}.")
    return views
