"""IDX files (LeCun 1998), in which MNIST and its likes are published."""

from __future__ import annotations

import struct

import torch
from torch import Tensor


def parse_idx(content: bytearray) -> Tensor:
    """Bytes in their shape: two zero bytes, type, number of dimensions, sizes, then the values.

    Args:
        content: of a file of unsigned bytes, which the tensor shares.
    """
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return torch.frombuffer(content, dtype=torch.uint8, offset=4 + 4 * dimensions).view(shape)
