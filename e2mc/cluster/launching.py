"""Runs a step here or as a SLURM job, waits for it, and says in one sentence what failed.

A *task* is a step with its output files, which lie in one folder, and the hash of everything that
decides them (its *spec*): what the caller says, and the names, sizes and times of the input files.
Its folder ``<folder of the outputs>/slurm/<step>-<hash of the outputs' names>`` holds

- ``output/``: where jobs write, state included. Outputs are linked to their place when the step is
  done, because Snakemake removes what is in that place before it starts a rule again;
- ``done.json``: written by a job after its step, with its spec. It is what "done" means;
- ``job.json``: the record: id, spec and submission of the last job;
- ``<submission>/``: submitit's files and the logs of one submission;
- ``lock``: held while a process looks for the task's job or submits it.

Under the lock, in this order: a step that is done with this spec is collected. A job whose comment
names this output and spec (or, where the cluster changes comments, whose id is in the record) is
waited for; so the comment alone suffices when a process died between submission and record. One
with another spec is cancelled, one that is ending is waited for and looked at again. Only a queue
that answered and has no job of this task leads to a submission. A record alone is never trusted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2mc.cluster import slurm
from e2mc.cluster.console import announce, terminal
from e2mc.cluster.slurm import UNREACHABLE, QueuedJob, Resources, Unreachable
from e2mc.cluster.waiting import (
    Stopped,
    Task,
    files_below,
    pause,
    read_json,
    signals_blocked,
    stop_signals,
    wait_in_small_process,
)

Code = object
from e2mc.errors import InputError, MachineError
from e2mc.state import fingerprint, write_json

# an sbatch that got no answer may have left a job, which the queue shows late
UNSURE_SECONDS = 60.0
# a task that is told to stop before Python handles the signal would be killed by it
PYTHON = """sh -c 'trap "" USR2; exec "$0" "$@"'"""


def run(
    step: Callable[..., None],
    *arguments: Any,
    outputs: Sequence[Path],
    spec: str,
    code: Code,
    resources: Resources | None,
    distributed: bool = False,
) -> None:
    """Calls ``step(*arguments)`` here, or in a SLURM job that is found or submitted and waited for.

    In a rule (see ``e2mc.cluster.console.logged``) a small process waits in this place: nothing
    that stands after the call is done.

    Args:
        step: a function of e2mc.steps; it and the arguments must be picklable for SLURM.
        arguments: its arguments. Every path in them, also in mappings, that is not among
            ``outputs`` is taken for an input.
        outputs: the files that the step makes, all in one folder.
        spec: a string that differs where the outputs would, apart from the input files and code.
        code: that makes the outputs.
        resources: what the job gets; None calls the step in this process.
        distributed: whether the step can be done by several ranks; otherwise it gets one.

    Raises:
        JobError: when the job failed, with the reason and its last lines.
        RuntimeError: when sbatch refuses the job, with its message.
        SystemExit: after SIGINT or SIGTERM, when the job is cancelled or left as ``resources`` say.
    """
    if resources is None:
        step(*arguments)
        return
    if not distributed:
        resources = resources.on_one_rank()
    task = _Submission(step, arguments, outputs, spec, code, resources)
    with stop_signals():
        try:
            job = task.find_or_submit()
            if job is not None and terminal() is not None:
                wait_in_small_process(task, job)
            if job is not None:
                task.wait(job)
            task.collect()
        except Stopped as stopped:
            task.stop(stopped)
            sys.exit(stopped.status)


class _Submission(Task):
    """A task with its step, which can be submitted."""

    def __init__(
        self,
        step: Callable[..., None],
        arguments: tuple[Any, ...],
        outputs: Sequence[Path],
        spec: str,
        code: Code,
        resources: Resources,
    ) -> None:
        paths = sorted(_absolute(path) for path in outputs)
        if len({path.parent for path in paths}) != 1:
            raise InputError(f"the outputs of {step.__name__} must lie in one folder: {outputs}")
        names = [path.name for path in paths]
        key = fingerprint({"outputs": sorted(names)})[:6]
        folder = paths[0].parent / "slurm" / f"{step.__name__}-{key}"
        super().__init__(step.__name__, paths, folder, "", resources)
        inputs: list[tuple[str, int, int]] = []
        self.step, self.code = step, code
        self.arguments = tuple(self._staging(value, inputs) for value in arguments)
        self.spec = fingerprint({"spec": spec, "code": code.hash(), "inputs": inputs})

    def _staging(self, value: Any, inputs: list[tuple[str, int, int]]) -> Any:
        """The argument with the outputs' paths in ``output/``; notes the input files."""
        if isinstance(value, Mapping):
            return {key: self._staging(item, inputs) for key, item in value.items()}
        if not isinstance(value, Path):
            return value
        if _absolute(value) in self.outputs:
            return self.staged / value.name
        if value.is_file():
            found = value.stat()
            inputs.append((str(value), found.st_size, found.st_mtime_ns))
        return value

    # --- finding and submitting ---

    def find_or_submit(self) -> str | None:
        """The id of the task's job, submitted if need be; None when the step is done."""
        said, message, unsure_until = "", "", 0.0
        while True:
            try:
                with self._lock():
                    if self.is_done():
                        return None
                    jobs = self.jobs()
                    ending = self._end_stale(jobs)
                    if ending is not None:
                        message = f"waiting for SLURM job {ending} of the same output to end"
                    elif jobs:
                        return self._attach(*jobs[0])
                    elif time.monotonic() >= unsure_until:
                        unsure_until = time.monotonic() + UNSURE_SECONDS
                        return self._submit()
            except Unreachable as error:
                message = f"SLURM does not take the job now, trying again: {error}"
            if message != said:
                announce(message)
                said = message
            pause(2.0)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pause(0.2)
                except OSError as error:
                    if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                        raise
                    announce(f"{self.folder} cannot be locked: run one workflow at a time there")
                    break
            yield

    def _end_stale(self, jobs: list[tuple[QueuedJob, str, str]]) -> str | None:
        """Leaves at most one job, of this spec; the id of one that is ending, if there is one."""
        kept = None
        for job, spec, submission in jobs:
            if job.state == "COMPLETING":
                return job.id
            if kept is None and spec == self.spec and (self.folder / submission).is_dir():
                kept = job.id
                continue
            announce(f"cancelling SLURM job {job.id}: it makes {self.name} of another spec")
            slurm.cancel(job.id)
            return job.id
        return None

    def _attach(self, job: QueuedJob, _: str, submission: str) -> str:
        """The id of a job in the queue; its files are completed where need be."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        self.submission = submission
        pickled = JobPaths(self.folder / submission, job_id=job.id).submitted_pickle
        if not pickled.exists():  # its submitter died before submitit gave it its name
            temporary = pickled.with_suffix(".part")
            DelayedSubmission(self._job()).dump(temporary)
            temporary.rename(pickled)
        self._write_record(job.id)
        announce(f"SLURM job {job.id} makes {self.name} already: waiting for it")
        return job.id

    def _submit(self) -> str:
        import submitit

        self.submission = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder = self.folder / self.submission
        self.done.unlink(missing_ok=True)
        if read_json(self.record).get("spec") != self.spec:
            shutil.rmtree(self.staged, ignore_errors=True)  # a state of another spec is of no use
        executor = submitit.SlurmExecutor(folder=folder, python=f"{PYTHON} {sys.executable}")
        comment = slurm.comment_of(
            self.outputs[0], self.spec, f"{self.folder.name}/{self.submission}"
        )
        executor.update_parameters(**self.resources.submission_parameters(self.job_name, comment))
        # a signal between submission and record waits until there is a record
        with signals_blocked(), _outside_any_job():
            try:
                job = executor.submit(self._job())
            except submitit.core.utils.FailedJobError as error:
                said = " ".join(str(error).split())
                if UNREACHABLE.search(said):
                    raise Unreachable(f"sbatch: {said}") from error
                raise MachineError(f"sbatch refuses the job for {self.name}: {said}") from error
            self._write_record(job.job_id)
        announce(f"SLURM job {job.job_id} is to make {self.name}")
        return job.job_id

    def _job(self) -> Any:
        from e2mc.cluster.job import SlurmJob

        return SlurmJob(
            step=self.step,
            arguments=self.arguments,
            workdir=Path.cwd(),
            folder=self.folder / self.submission,
            done=self.done,
            spec=self.spec,
            code=self.code,
            versions=self.code.versions(),
            time_minutes=self.resources.time_minutes,
            max_requeues=self.resources.max_requeues,
            signal_seconds=self.resources.signal_seconds,
        )

    def _write_record(self, job: str) -> None:
        submission = f"{self.folder.name}/{self.submission}"
        write_json({"job": job, "spec": self.spec, "submission": submission}, self.record)


def tidy(root: Path) -> None:
    """Forgets the tasks under ``root`` that are collected; their logs stay.

    Until then a task is done, however often Snakemake asks again; what a workflow that has ended
    asks for again is to be made again.
    """
    for done in Path(root).rglob("slurm/*/done.json"):
        folder = done.parent
        staged, place = folder / "output", folder.parent.parent
        if all(_same(path, place / path.relative_to(staged)) for path in files_below(staged)):
            done.unlink()
            shutil.rmtree(staged)
            for pickled in folder.glob("*/*.pkl"):
                pickled.unlink()


def _same(staged: Path, place: Path) -> bool:
    """Whether a file was collected, as a link or a copy."""
    if not place.exists():
        return False
    one, other = staged.stat(), place.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


@contextlib.contextmanager
def _outside_any_job() -> Iterator[None]:
    """Hides the job that this process may run in, whose settings a new job would inherit."""
    from submitit.helpers import clean_env

    configuration = os.environ.get("SLURM_CONF")
    with clean_env():
        if configuration is not None:
            os.environ["SLURM_CONF"] = configuration
        yield


def forward_signals() -> None:
    """Passes SIGINT and SIGTERM on to the rules that wait for jobs.

    For the process of Snakemake, which by itself waits for running rules, for days perhaps.
    """
    import psutil

    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if not callable(before):  # ignored, e.g. under nohup
            continue

        def forward(number: int, frame: Any, before: Any = before) -> Any:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.send_signal(number)
            return before(number, frame)

        signal.signal(number, forward)


def _absolute(path: Path) -> Path:
    """Without links in the folder, so that one file has one name on every node."""
    return Path(path).parent.resolve() / Path(path).name


def launch(task, resources, *, distributed=False):
    task.perform()
