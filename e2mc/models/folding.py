"""Batch normalisations folded into the convolutions before them, for networks that do not learn."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from e2mc.errors import InputError
from e2mc.models.probe import reason

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy for evaluation in which a convolution does what the normalisation behind it did.

    In evaluation mode both are linear, so one convolution with other weights and a bias gives the
    same, to rounding. Pairs are found by following what ``forward`` does: a convolution that is
    used once and whose result goes into an ``nn.BatchNorm2d`` and nowhere else. Other
    normalisations stay.

    Args:
        network: it is left as it is.

    Raises:
        InputError: where what ``forward`` does depends on what it is given and cannot be followed.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for convolution, norm in list(_pairs(folded)):
        pair: list[Any] = [folded.get_submodule(name) for name in (convolution, norm)]
        fused = fuse_conv_bn_eval(*pair)
        _put(folded, convolution, fused)
        _put(folded, norm, nn.Identity())
    return folded


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """(name of a convolution, name of the normalisation that alone has its result)."""
    try:
        nodes = [node for node in fx.Tracer().trace(network).nodes if node.op == "call_module"]
    except Exception as error:
        raise InputError(
            "batch normalisations of this backbone cannot be folded into its convolutions "
            f"({reason(error)}): set frozen_pass.fold to false"
        ) from error
    uses = Counter(node.target for node in nodes)
    for node in nodes:
        before = node.args[0] if node.args else None
        if (
            isinstance(before, fx.Node)
            and before.op == "call_module"
            and len(before.users) == 1
            and uses[node.target] == uses[before.target] == 1
            and type(network.get_submodule(str(before.target))) is nn.Conv2d
            and type(norm := network.get_submodule(str(node.target))) is nn.BatchNorm2d
            and norm.running_mean is not None
        ):
            yield str(before.target), str(node.target)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    above, _, last = name.rpartition(".")
    setattr(network.get_submodule(above), last, module)
