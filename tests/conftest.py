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
# The files of minutes, longest first. A worker begins with two files and is given another when it
# ends one: three workers on two cores, as jobs are often waited for, end at about the same time if
# a short file goes with the longest, and short ones come last.
LONG = (
    "slurm/test_workflow.py",
    "slurm/test_jobs.py",
    "slurm/test_reattach.py",
    "cluster/test_console.py",
    "slurm/test_training.py",
    "workflow/test_docs.py",
    "workflow/test_bases.py",
    "workflow/test_kill.py",
    "workflow/test_edits.py",
    "workflow/test_tasks.py",
    "workflow/test_smoke.py",
    "workflow/test_studies.py",
    "workflow/test_report.py",
    "workflow/test_on_disk.py",
    "test_packaging.py",
)
# a shell lets its background jobs ignore SIGINT, and so would every process that a test interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


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
