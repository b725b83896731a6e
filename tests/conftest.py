"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

torch.set_num_threads(1)


@pytest.fixture
def golden() -> Callable[[str], dict[str, Tensor]]:
    """Read what the official code gives for stored inputs: name of the file -> its tensors."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(Path(__file__).parent / "goldens" / f"{name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file}

    return read
