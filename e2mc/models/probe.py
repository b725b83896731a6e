"""What a network gives, found without computing it: shapes on the meta device."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class _Call(nn.Module):
    """A method of a module as a module."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, images: Tensor) -> Any:
        return getattr(self.module, self.method)(images)


def output_shape(
    network: nn.Module, in_channels: int, size: int, method: str = "forward"
) -> tuple[int, ...]:
    """The shape of what a network gives for one image, in evaluation mode.

    Weights, buffers and the state of random generators stay as they are. Where the meta device
    cannot tell, one image of zeros is computed.

    Args:
        network: the network; its weights may themselves be on the meta device.
        in_channels: channels of the image.
        size: its side in pixels.
        method: what is called.

    Returns:
        The shape; empty if it gives no tensor.

    Raises:
        Exception: whatever the network raises for such an image.
    """
    call = _Call(network, method)
    tensors = dict(chain(call.named_parameters(), call.named_buffers()))
    stand_ins = {
        name: torch.empty_like(tensor, device="meta", requires_grad=False)
        for name, tensor in tensors.items()
    }
    image = (1, in_channels, size, size)
    with _evaluating(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                found = functional_call(call, stand_ins, (torch.empty(image),))
        except Exception:
            if any(tensor.is_meta for tensor in tensors.values()):
                raise
            found = call(torch.zeros(image))
    return tuple(found.shape) if isinstance(found, Tensor) else ()


def reason(error: Exception) -> str:
    """Why a library refused: the first line of what it says, or else the line that failed."""
    text = str(error).partition("\n")[0].strip().rstrip(".")
    if text:
        return text
    frames = traceback.extract_tb(error.__traceback__)
    line = frames[-1].line if frames else None
    return f"{type(error).__name__} at `{line}`" if line else type(error).__name__


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
