"""Runs a step here or as a SLURM job through submitit, and says in one sentence what failed."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from e2mc.study import Config

# errors that are somebody's input, machine or data, not a fault of this code: no traceback
EXPECTED_ERRORS = (OSError, ValueError, RuntimeError)


def run(step: Callable[..., None], *arguments: Any, config: Config, folder: Path) -> None:
    """Calls ``step(*arguments)`` where config.yaml says.

    Args:
        step: a function of e2mc.steps; it and the arguments must be picklable for SLURM.
        config: ``launcher`` and, for SLURM, submitit's parameters.
        folder: where submitit keeps the job's files; must be on a file system that the nodes share.
    """
    if config.launcher == "local":
        step(*arguments)
        return
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    executor.update_parameters(**config.slurm)
    job = executor.submit(step, *arguments)
    print(f"submitted SLURM job {job.job_id}, log {job.paths.stderr}", file=sys.stderr)
    try:
        job.result()
    except BaseException:
        job.cancel()
        raise


@contextlib.contextmanager
def logged(log: str) -> Iterator[None]:
    """Standard output and error go to ``log``; an expected error is one line on the terminal.

    Exits with status 1 after an expected error, whose traceback is in the log; anything else is a
    fault of this code and is raised.
    """
    terminal = os.dup(2)
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except EXPECTED_ERRORS as error:
        traceback.print_exc()
        os.write(terminal, f"error: {error}\n".encode())
        sys.exit(1)
