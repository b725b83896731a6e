"""What runs inside a SLURM job: the step on every rank, and what becomes of it when SLURM stops it.

Near its time limit and when it is preempted, a job gets SIGUSR2 (or SIGTERM alone, as clusters are
set up). Every rank notes it, ``pretrain`` agrees on the step to stop at, saves its state and raises
``Interrupted``; then rank 0 puts the job back into the queue, unless it was cancelled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2mc import progress
from e2mc.cluster import slurm
from e2mc.errors import EXPECTED_ERRORS, MachineError
from e2mc.state import write_json
from e2mc.task import Task


@dataclass(frozen=True)
class SlurmJob:
    """A task as a job; submitit calls it on every rank.

    Args:
        task: what every rank performs.
        workdir: folder that relative paths start from.
        folder: where this submission's own files are.
        done: file that says that the task has been done, and of what ``spec``.
        spec: hash of everything that decides the outputs.
        time_minutes, max_requeues, signal_seconds: as in ``Resources``.
    """

    task: Task
    workdir: Path
    folder: Path
    done: Path
    spec: str
    time_minutes: int
    max_requeues: int
    signal_seconds: int

    def __call__(self) -> None:
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda *_: progress.request_stop())
        self._report_path.unlink(missing_ok=True)
        try:
            self._go_to_workdir()
            with _process_group():
                self.task.perform()
        except progress.Interrupted:
            if _rank() == 0:
                self._go_on_later()
            # not an error; submitit writes results of what returns, and this is none
            sys.exit(0)
        except EXPECTED_ERRORS as error:
            self._report(str(error))
            raise
        except Exception as error:
            self._report(f"{type(error).__name__}: {error}")
            raise
        if _rank() == 0:
            write_json({"spec": self.spec, "job": os.environ["SLURM_JOB_ID"]}, self.done)

    def _go_to_workdir(self) -> None:
        try:
            os.chdir(self.workdir)
        except OSError as error:
            raise OSError(
                f"node {os.environ['SLURMD_NODENAME']} cannot see {self.workdir}: move the project "
                "to a file system that all nodes share"
            ) from error

    def _go_on_later(self) -> None:
        """Requeues this job, unless it was cancelled or SLURM is requeueing it already."""
        job = os.environ["SLURM_JOB_ID"]
        try:
            fields = self._insist(lambda: slurm.job_fields(job))
        except MachineError as error:
            return self._report(
                f"it was stopped and cannot ask SLURM why: {error}; its state is saved: run the "
                "same again to go on"
            )
        if fields.get("JobState") != "RUNNING":
            print(f"SLURM job {job} is stopped; its state is saved", flush=True)
            return
        why = "preempted" if fields.get("PreemptTime", "")[:1].isdigit() else "time limit"
        history = self.folder / "interruptions.txt"
        with history.open("a") as file:
            file.write(f"{why}\n")
        reached = history.read_text().split("\n").count("time limit")
        if reached > self.max_requeues:
            return self._report(
                f"it reached its time limit of {self.time_minutes} minutes {reached} times, and "
                f"max_requeues is {self.max_requeues}; its state is saved: run the same again to "
                "go on, or raise time_minutes"
            )
        # said before it is done: SLURM ends the job then
        print(f"SLURM job {job} goes back into the queue ({why}); its state is saved", flush=True)
        try:
            self._insist(lambda: slurm.requeue(job))
        except MachineError as error:
            self._report(
                f"it was stopped ({why}) and cannot be requeued: {error}; its state is saved: run "
                "the same again to go on"
            )

    def _insist(self, command: Callable[[], Any]) -> Any:
        """The answer of SLURM, which may be away; asked for as long as there may be time."""
        end = time.monotonic() + self.signal_seconds / 2
        while True:
            try:
                return command()
            except slurm.Unreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(2.0)

    def _report(self, message: str) -> None:
        """Leaves the reason of a failure to who waits for the job."""
        content = {"message": message, "rank": _rank(), "time": time.time()}
        write_json(content, self._report_path)

    @property
    def _report_path(self) -> Path:
        return self.folder / f"failed-{_rank()}.json"


def _rank() -> int:
    return int(os.environ["SLURM_PROCID"])


@contextlib.contextmanager
def _process_group() -> Iterator[None]:
    """torch.distributed over the job's ranks, where there are several; one GPU for each."""
    import torch  # the process that submits this module's class needs none
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["SLURM_LOCALID"]) % torch.cuda.device_count())
    if int(os.environ["SLURM_NTASKS"]) == 1:
        yield
        return
    from submitit.helpers import TorchDistributedEnvironment

    # submitit would make the local rank the only visible GPU, though SLURM allotted others
    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    yield
    dist.barrier()
    dist.destroy_process_group()
