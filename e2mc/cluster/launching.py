"""Runs a task here or as a SLURM job, which is found again or submitted.

Under the lock of the task's folder (see ``e2mc.cluster.staging``), in this order: a task that is
done with this spec is collected. A job whose comment names this output and spec (or, where the
cluster changes comments, whose id is in the record) is waited for; so the comment alone suffices
when a process died between submission and record. One with another spec is cancelled, one that is
ending is waited for and looked at again. Only a queue that answered and has no job of this task
leads to a submission. A record alone is never trusted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from e2mc.cluster import slurm
from e2mc.cluster.console import announce
from e2mc.cluster.job import SlurmJob
from e2mc.cluster.signals import Stopped, pause, signals_blocked, stop_signals
from e2mc.cluster.slurm import UNREACHABLE, QueuedJob, Resources, Unreachable
from e2mc.cluster.staging import JobFolder
from e2mc.cluster.waiting import Job
from e2mc.errors import MachineError
from e2mc.task import Task

# an sbatch that got no answer may have left a job, which the queue shows late
UNSURE_SECONDS = 60.0
# a task that is told to stop before Python handles the signal would be killed by it
PYTHON = """sh -c 'trap "" USR2; exec "$0" "$@"'"""


def launch(task: Task, resources: Resources | None, *, distributed: bool = False) -> None:
    """Performs a task here, or in a SLURM job that is found or submitted and waited for.

    The job finds outputs that are in their place already where it writes; they may be links, so
    the step must write to another name and rename. They change when the whole step is done.

    Args:
        resources: what the job gets; None performs the task in this process.
        distributed: whether several ranks can perform it; otherwise the job has one.

    Raises:
        JobError: when the job failed, with the reason and its last lines.
        MachineError: when sbatch refuses the job, with its message.
        SystemExit: after SIGINT or SIGTERM, when the job is cancelled or left as ``resources`` say.
    """
    if resources is None:
        task.perform()
        return
    launcher = _Launcher(task, resources if distributed else resources.on_one_rank())
    with stop_signals():
        try:
            job = launcher.find_or_submit()
            if job is not None:
                job.wait()
            launcher.folder.collect()
        except Stopped as stopped:
            launcher.stop(stopped)
            sys.exit(stopped.status)


class _Found(NamedTuple):
    """A job in the queue that makes the same outputs, perhaps of another spec."""

    job: QueuedJob
    spec: str
    submission: str


class _Launcher:
    """Finds, submits and cancels the job of a task."""

    def __init__(self, task: Task, resources: Resources) -> None:
        self.folder, self.resources = JobFolder(task), resources
        self.job_name = f"e2mc-{task.name}"

    def find_or_submit(self) -> Job | None:
        """The task's job, submitted if need be; None when the task is done."""
        said, message, unsure_until = "", "", 0.0
        while True:
            try:
                with self._lock():
                    if self.folder.is_done():
                        return None
                    jobs = self._in_queue()
                    if not jobs and self.folder.is_done():  # its job ended in between
                        return None
                    ending = self._end_stale(jobs)
                    if ending is not None:
                        message = f"waiting for SLURM job {ending} of the same output to end"
                    elif jobs:
                        return self._attach(jobs[0])
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
        folder = self.folder.path
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pause(0.2)
                except OSError as error:
                    if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                        raise
                    announce(f"{folder} cannot be locked: run one workflow at a time there")
                    break
            yield

    def _in_queue(self) -> list[_Found]:
        """The task's jobs that have not ended, oldest first."""
        output, record = str(self.folder.outputs[0]), self.folder.record()
        found = []
        for job in slurm.queue():
            if job.ended:
                continue
            mark = slurm.read_comment(job.comment)
            if mark is None and (job.id, job.name) == (record.get("job"), self.job_name):
                mark = {"output": output} | record
            # another task may make the same file among others
            if mark is not None and mark["output"] == output:
                folder, _, submission = mark["submission"].partition("/")
                if folder == self.folder.path.name:
                    found.append(_Found(job, mark["spec"], submission))
        return sorted(found, key=lambda item: int(item.job.id))

    def _end_stale(self, jobs: list[_Found]) -> str | None:
        """Leaves at most one job, of this spec; the id of one that is ending, if there is one."""
        kept = None
        for job, spec, submission in jobs:
            if job.state == "COMPLETING":
                return job.id
            present = (self.folder.path / submission).is_dir()
            if kept is None and spec == self.folder.spec and present:
                kept = job.id
                continue
            announce(f"cancelling SLURM job {job.id}: it makes {self.folder.name} of another spec")
            slurm.cancel(job.id)
            return job.id
        return None

    def _attach(self, found: _Found) -> Job:
        """A job in the queue; its files are completed where need be."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        job = Job(found.job.id, found.submission, self.folder, self.resources)
        pickled = JobPaths(job.path, job_id=job.id).submitted_pickle
        if not pickled.exists():  # its submitter died before submitit gave it its name
            temporary = pickled.with_suffix(".part")
            DelayedSubmission(self._content(job.path)).dump(temporary)
            temporary.rename(pickled)
        self.folder.write_record(job.id, job.submission)
        announce(f"SLURM job {job.id} makes {self.folder.name} already: waiting for it")
        return job

    def _submit(self) -> Job:
        import submitit

        submission = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder = self.folder
        folder.prepare()
        comment = slurm.comment_of(
            folder.outputs[0], folder.spec, f"{folder.path.name}/{submission}"
        )
        path = folder.path / submission
        executor = submitit.SlurmExecutor(folder=path, python=f"{PYTHON} {sys.executable}")
        executor.update_parameters(**self.resources.submission_parameters(self.job_name, comment))
        # a signal between submission and record waits until there is a record
        with signals_blocked(), _outside_any_job():
            try:
                submitted = executor.submit(self._content(path))
            except submitit.core.utils.FailedJobError as error:
                said = " ".join(str(error).split())
                if UNREACHABLE.search(said):
                    raise Unreachable(f"sbatch: {said}") from error
                raise MachineError(f"sbatch refuses the job for {folder.name}: {said}") from error
            folder.write_record(submitted.job_id, submission)
        announce(f"SLURM job {submitted.job_id} is to make {folder.name}")
        return Job(submitted.job_id, submission, folder, self.resources)

    def _content(self, path: Path) -> SlurmJob:
        """What a job does whose own files are in the folder ``path``."""
        return SlurmJob(
            task=self.folder.task,
            workdir=Path.cwd(),
            folder=path,
            done=self.folder.done,
            spec=self.folder.spec,
            time_minutes=self.resources.time_minutes,
            max_requeues=self.resources.max_requeues,
            signal_seconds=self.resources.signal_seconds,
        )

    def stop(self, stopped: Stopped) -> None:
        """Cancels the task's jobs, or leaves them to the next run."""
        name = self.folder.name
        if not stopped.cancels or self.resources.on_interrupt == "leave":
            announce(f"the job that makes {name} is left: the next run waits for it")
            return
        try:
            with signals_blocked():  # a second Ctrl-C would end scancel
                for job, _, _ in self._in_queue():
                    slurm.cancel(job.id)
                    announce(f"cancelled SLURM job {job.id}, which made {name}")
        except MachineError as error:
            announce(f"the job that makes {name} could not be cancelled: {error}")


@contextlib.contextmanager
def _outside_any_job() -> Iterator[None]:
    """Hides the job that this process may run in, whose settings a new job would inherit."""
    from submitit.helpers import clean_env

    configuration = os.environ.get("SLURM_CONF")
    with clean_env():
        if configuration is not None:
            os.environ["SLURM_CONF"] = configuration
        yield
