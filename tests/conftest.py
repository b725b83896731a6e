"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import checkout, copy_of_finished, finished, new_checkout  # noqa: F401
from torch import Tensor

torch.set_num_threads(1)
# a shell lets its background jobs ignore SIGINT, and so would every process that a test interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def golden() -> Callable[[str], dict[str, Tensor]]:
    """Read what the official code gives for stored inputs: name of the file -> its tensors."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(Path(__file__).parent / "goldens" / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file}
        return {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind in "fi"}

    return read


@pytest.fixture
def same_value() -> Callable[[Tensor, Tensor], None]:
    """Assert equality to 1e-9 relative."""
    return lambda a, b: torch.testing.assert_close(a, b, rtol=1e-9, atol=0, check_dtype=False)


@pytest.fixture
def same_gradient() -> Callable[[Tensor, Tensor], None]:
    """Assert equality to 1e-8 of the largest entry."""

    def check(gradient: Tensor, expected: Tensor) -> None:
        tolerance = 1e-8 * float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=0, atol=tolerance)

    return check
