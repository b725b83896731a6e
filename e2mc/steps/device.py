"""Where a step computes."""

from __future__ import annotations

import torch


def resolve_device(device: str) -> str:
    """ "auto" is the GPU where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
