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
import json
import os
import secrets
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2mc import slurm
from e2mc.errors import EXPECTED_ERRORS
from e2mc.slurm import END_STATES, OUT_OF_MEMORY, UNREACHABLE, QueuedJob, Resources, Unreachable
from e2mc.state import fingerprint, write_json

# a task that is told to stop before Python handles the signal would be killed by it
PYTHON = """sh -c 'trap "" USR2; exec "$0" "$@"'"""
LAST_LINES = 12
TAIL_BYTES = 16_384
# a job that ended may be requeued a moment later, and shared file systems show new files late
SETTLE_SECONDS = {"COMPLETED": 20.0, "UNKNOWN": 20.0}
SETTLE_SECONDS_OTHERWISE = 6.0

_terminal: int | None = None  # of a rule, whose standard error is its log
_stopped_by: int | None = None  # the signal that came


class JobError(RuntimeError):
    """A SLURM job that failed: why, where its log is, and the log's last lines."""


def run(
    step: Callable[..., None],
    *arguments: Any,
    outputs: Sequence[Path],
    spec: str,
    resources: Resources | None,
    distributed: bool = False,
) -> None:
    """Calls ``step(*arguments)`` here, or in a SLURM job that is found or submitted and waited for.

    Args:
        step: a function of e2mc.steps; it and the arguments must be picklable for SLURM.
        arguments: its arguments. Every path in them, also in mappings, that is not among
            ``outputs`` is taken for an input.
        outputs: the files that the step makes, all in one folder.
        spec: a string that differs where the outputs would, apart from the input files.
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
    task = _Task(
        step, arguments, outputs, spec, resources if distributed else resources.on_one_rank()
    )
    with _stop_signals():
        try:
            job = task.find_or_submit()
            if job is not None:
                task.wait(job)
            task.collect()
        except _Stopped as stopped:
            task.stop(cancel=stopped.cancels and resources.on_interrupt == "cancel")
            sys.exit(stopped.status)


class _Task:
    """A step with its files, its spec and its job."""

    def __init__(
        self,
        step: Callable[..., None],
        arguments: tuple[Any, ...],
        outputs: Sequence[Path],
        spec: str,
        resources: Resources,
    ) -> None:
        self.step, self.resources = step, resources
        self.outputs = sorted(_absolute(path) for path in outputs)
        if len({path.parent for path in self.outputs}) != 1:
            raise ValueError(f"the outputs of {step.__name__} must lie in one folder: {outputs}")
        names = [path.name for path in self.outputs]
        key = fingerprint({"outputs": sorted(names)})[:6]
        self.folder = self.outputs[0].parent / "slurm" / f"{step.__name__}-{key}"
        self.staged = self.folder / "output"
        self.done = self.folder / "done.json"
        self.record = self.folder / "job.json"
        inputs: list[tuple[str, int, int]] = []
        self.arguments = tuple(self._staging(value, inputs) for value in arguments)
        self.spec = fingerprint({"spec": spec, "inputs": inputs})
        self.submission = ""

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
        said = ""
        while True:
            try:
                with self._lock():
                    if self.is_done():
                        return None
                    jobs = self._jobs()
                    ending = self._end_stale(jobs)
                    if ending is None:
                        return self._attach(*jobs[0]) if jobs else self._submit()
                    message = f"waiting for SLURM job {ending} of the same output to end"
            except Unreachable as error:
                message = f"SLURM does not answer, trying again: {error}"
            if message != said:
                announce(message)
                said = message
            _pause(2.0)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    _pause(0.2)
                except OSError as error:
                    if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                        raise
                    announce(f"{self.folder} cannot be locked: run one workflow at a time there")
                    break
            yield

    def _jobs(self) -> list[tuple[QueuedJob, str, str]]:
        """The task's jobs that have not ended, oldest first, with their spec and submission."""
        record = _read_json(self.record)
        found = []
        for job in slurm.queue():
            if job.ended:
                continue
            mark = slurm.read_comment(job.comment)
            if mark is None and (job.id, job.name) == (record.get("job"), self._job_name):
                mark = {"output": str(self.outputs[0])} | record
            # another task may make the same file among others
            if mark is not None and mark["output"] == str(self.outputs[0]):
                task, _, submission = mark["submission"].partition("/")
                if task == self.folder.name:
                    found.append((job, mark["spec"], submission))
        return sorted(found, key=lambda item: int(item[0].id))

    def _end_stale(self, jobs: list[tuple[QueuedJob, str, str]]) -> str | None:
        """Leaves at most one job, of this spec; the id of one that is ending, if there is one."""
        kept = None
        for job, spec, submission in jobs:
            if job.state == "COMPLETING":
                return job.id
            if kept is None and spec == self.spec and (self.folder / submission).is_dir():
                kept = job.id
                continue
            announce(f"cancelling SLURM job {job.id}: it makes {self._name} of another spec")
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
        announce(f"SLURM job {job.id} makes {self._name} already: waiting for it")
        return job.id

    def _submit(self) -> str:
        import submitit

        self.submission = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder = self.folder / self.submission
        self.done.unlink(missing_ok=True)
        if _read_json(self.record).get("spec") != self.spec:
            shutil.rmtree(self.staged, ignore_errors=True)  # a state of another spec is of no use
        executor = submitit.SlurmExecutor(folder=folder, python=f"{PYTHON} {sys.executable}")
        comment = slurm.comment_of(
            self.outputs[0], self.spec, f"{self.folder.name}/{self.submission}"
        )
        executor.update_parameters(**self.resources.submission_parameters(self._job_name, comment))
        # a signal between submission and record waits until there is a record
        with _signals_blocked(), _outside_any_job():
            try:
                job = executor.submit(self._job())
            except submitit.core.utils.FailedJobError as error:
                said = " ".join(str(error).split())
                if UNREACHABLE.search(said):
                    raise Unreachable(f"sbatch: {said}") from error
                raise RuntimeError(f"sbatch refuses the job for {self._name}: {said}") from error
            self._write_record(job.job_id)
        announce(f"SLURM job {job.job_id} is to make {self._name}")
        return job.job_id

    def _job(self) -> Any:
        from e2mc.slurm_job import SlurmJob

        return SlurmJob(
            step=self.step,
            arguments=self.arguments,
            workdir=Path.cwd(),
            folder=self.folder / self.submission,
            done=self.done,
            spec=self.spec,
            time_minutes=self.resources.time_minutes,
            max_requeues=self.resources.max_requeues,
        )

    def _write_record(self, job: str) -> None:
        submission = f"{self.folder.name}/{self.submission}"
        write_json({"job": job, "spec": self.spec, "submission": submission}, self.record)

    # --- waiting ---

    def is_done(self) -> bool:
        return _read_json(self.done).get("spec") == self.spec

    def wait(self, job: str) -> None:
        """Returns when the step is done; shows the job's states and its log meanwhile."""
        log = self.log(job)
        announce(f"SLURM job {job}: log {log}")
        tail = _Tail(log)
        begin = time.time()
        next_look = time.monotonic()
        said, ended_at = "", None
        while not self.is_done():
            tail.copy()
            if time.monotonic() >= next_look:
                message, state, detail = said, "", ""
                try:
                    age = 1.0 if ended_at else 0.9 * self.resources.poll_seconds
                    state, detail = self._state(job, age, begin)
                    message = f"SLURM job {job}: {state} {detail}".rstrip()
                except Unreachable as error:
                    message = f"SLURM does not answer, trying again: {error}"
                if message != said:
                    announce(message)
                    said = message
                if state in END_STATES or state == "UNKNOWN":
                    ended_at = ended_at or time.monotonic()
                    settle = SETTLE_SECONDS.get(state, SETTLE_SECONDS_OTHERWISE)
                    settle = 0.0 if self._reports() else settle
                    if time.monotonic() - ended_at >= settle and not self.is_done():
                        tail.copy()
                        raise JobError(self._failure(job, state, detail))
                elif state:
                    ended_at = None
                hurry = ended_at is not None or self._reports()
                next_look = time.monotonic() + (1.0 if hurry else self.resources.poll_seconds)
            _pause(1.0)
        tail.copy()

    def _state(self, job: str, age: float, since: float) -> tuple[str, str]:
        """State and detail of a job, which SLURM may have forgotten: UNKNOWN."""
        for found in slurm.queue(age, since):
            if found.id == job:
                if found.ended:
                    break
                reason = "" if found.reason == "None" else f"({found.reason})"
                return found.state, f"on {found.nodes}" if found.nodes else reason
        return slurm.final_state(job) or ("UNKNOWN", "to SLURM")

    def log(self, job: str, rank: int = 0) -> Path:
        return self.folder / self.submission / f"{job}_{rank}_log.out"

    def _reports(self) -> list[dict[str, Any]]:
        """What the ranks said when they failed."""
        return [_read_json(path) for path in (self.folder / self.submission).glob("failed-*.json")]

    def _failure(self, job: str, state: str, detail: str) -> str:
        """Why the job failed: one sentence, then the last lines of its log."""
        # the other ranks fail after the one that had a reason
        report = min(self._reports(), key=lambda item: item["time"], default=None)
        log = self.log(job, report["rank"] if report else 0)
        if not log.exists():
            why = (
                f"it left no log: its nodes cannot see {self.folder} ({detail}); move the project "
                "to a file system that all nodes share"
            )
            if state == "CANCELLED":
                why = f"{END_STATES[state]} before it ran"
            return f"SLURM job {job} for {self._name} failed: {why}"
        lines = _last_bytes(log).splitlines()
        if report:
            why = report["message"]
        elif state == "UNKNOWN":
            why = "it left no result, and SLURM has forgotten why"
        elif OUT_OF_MEMORY.search("\n".join(lines)):
            why = END_STATES["OUT_OF_MEMORY"]
        else:
            why = f"{END_STATES[state]} ({state}, {detail})"
        text = "\n".join(f"  {line}" for line in lines[-LAST_LINES:])
        return f"SLURM job {job} for {self._name} failed: {why}\nthe end of {log}:\n{text}"

    def stop(self, cancel: bool) -> None:
        """Cancels the task's jobs, or leaves them to the next run."""
        if not cancel:
            return announce(f"the job that makes {self._name} is left: the next run waits for it")
        try:
            for job, _, _ in self._jobs():
                slurm.cancel(job.id)
                announce(f"cancelled SLURM job {job.id}, which made {self._name}")
        except RuntimeError as error:
            announce(f"the job that makes {self._name} could not be cancelled: {error}")

    def collect(self) -> None:
        """Links what the step made to its place, each file whole or not at all."""
        missing = [path.name for path in self.outputs if not (self.staged / path.name).exists()]
        if missing:
            self.done.unlink(missing_ok=True)
            raise JobError(
                f"the job for {self._name} did not write {', '.join(missing)} in {self.staged}: "
                "run the same again"
            )
        for source in _files(self.staged):
            path = self.outputs[0].parent / source.relative_to(self.staged)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            try:
                os.link(source, temporary)
            except OSError:  # a file system without links
                shutil.copy2(source, temporary)
            # renaming a link to the same file would do nothing
            path.unlink(missing_ok=True)
            temporary.rename(path)

    @property
    def _job_name(self) -> str:
        return f"e2mc-{self.step.__name__}"

    @property
    def _name(self) -> str:
        with contextlib.suppress(ValueError):
            return str(self.outputs[0].relative_to(Path.cwd()))
        return str(self.outputs[0])


def tidy(root: Path) -> None:
    """Forgets the tasks under ``root`` that are collected; their logs stay.

    Until then a task is done, however often Snakemake asks again; what a workflow that has ended
    asks for again is to be made again.
    """
    for done in Path(root).rglob("slurm/*/done.json"):
        folder = done.parent
        staged, place = folder / "output", folder.parent.parent
        if all((place / path.relative_to(staged)).exists() for path in _files(staged)):
            done.unlink()
            shutil.rmtree(staged)
            for pickled in folder.glob("*/*.pkl"):
                pickled.unlink()


def announce(message: str) -> None:
    """One line on standard error and, in a rule, on the terminal."""
    print(message, file=sys.stderr, flush=True)
    if _terminal is not None:
        with contextlib.suppress(OSError):  # the terminal may be closed
            os.write(_terminal, f"{message}\n".encode())


@contextlib.contextmanager
def logged(log: str) -> Iterator[None]:
    """Standard output and error go to ``log``; an expected error is one line on the terminal.

    Exits with status 1 after an expected error, whose traceback is in the log; anything else is a
    fault of this code and is raised.
    """
    global _terminal
    _terminal = os.dup(2)
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except EXPECTED_ERRORS as error:
        traceback.print_exc()
        os.write(_terminal, f"error: {error}\n".encode())
        sys.exit(1)


# --- signals ---


class _Stopped(BaseException):
    """A signal came, or who started this process is gone."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        self.cancels = number in (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGINT and SIGTERM are noted, and looked at where nothing is half done."""
    global _stopped_by

    def note(number: int, _: Any) -> None:
        global _stopped_by
        _stopped_by = _stopped_by or number

    _stopped_by = None
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(seconds: float) -> None:
    """Sleeps; raises _Stopped when a signal has come or the workflow is dead."""
    end = time.monotonic() + seconds
    while True:
        if _stopped_by is not None:
            raise _Stopped(_stopped_by)
        # in a rule: Snakemake was killed, its next run waits for the job
        if _terminal is not None and os.getppid() != _PARENT:
            raise _Stopped(signal.SIGHUP)
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 1.0))


_PARENT = os.getppid()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Also for the commands started meanwhile: a terminal signals all of its processes."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


# --- files ---


class _Tail:
    """Copies what is added to a file to standard error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = max(0, path.stat().st_size - TAIL_BYTES) if path.exists() else 0

    def copy(self) -> None:
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self.position)
            content = file.read()
            self.position += len(content)
            sys.stderr.flush()
            os.write(2, content)


def _files(folder: Path) -> list[Path]:
    """The files in a folder and below it."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _last_bytes(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def _absolute(path: Path) -> Path:
    """Without links in the folder, so that one file has one name on every node."""
    return Path(path).parent.resolve() / Path(path).name


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a file that is whole or absent; empty when it is absent."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
