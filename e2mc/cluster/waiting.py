"""Waits for the SLURM job of a task, shows what it does, and collects what it made.

A rule waits for days perhaps, and hundreds of them at once. So it goes on as ``python -m
e2mc.cluster.waiting``, a process without PyTorch, which takes a tenth of the memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from e2mc.cluster import slurm
from e2mc.cluster.console import announce, terminal, told_on
from e2mc.cluster.slurm import END_STATES, NEVER_STARTS, OUT_OF_MEMORY, QueuedJob, Resources
from e2mc.errors import MachineError

LAST_LINES = 12
TAIL_BYTES = 16_384
# a job that ended may be requeued a moment later
SETTLE_SECONDS = 6.0
SHELLS = {"bash", "sh", "dash"}
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

_stopped_by: int | None = None  # the signal that came


class JobError(MachineError):
    """A SLURM job that failed: why, where its log is, and the log's last lines."""


class Task:
    """The files of a task and its jobs, see ``e2mc.cluster.launching``.

    Args:
        step: name of the function that makes the outputs.
        outputs: the files that it makes, sorted, all in one folder.
        folder: where the task's own files are.
        spec: hash of everything that decides the outputs.
        resources: what its job gets.
        submission: folder of its job's files within ``folder``.
    """

    def __init__(
        self,
        step: str,
        outputs: list[Path],
        folder: Path,
        spec: str,
        resources: Resources,
        submission: str = "",
    ) -> None:
        self.job_name = f"e2mc-{step}"
        self.outputs, self.folder, self.spec = outputs, folder, spec
        self.resources, self.submission = resources, submission
        self.staged = folder / "output"
        self.done = folder / "done.json"
        self.record = folder / "job.json"

    def as_text(self) -> str:
        """What ``of_text`` makes the task of again, in another process."""
        content = {
            "step": self.job_name.removeprefix("e2mc-"),
            "outputs": [str(path) for path in self.outputs],
            "folder": str(self.folder),
            "spec": self.spec,
            "resources": asdict(self.resources),
            "submission": self.submission,
        }
        return json.dumps(content)

    @classmethod
    def of_text(cls, text: str) -> Self:
        content = json.loads(text)
        content["outputs"] = [Path(path) for path in content["outputs"]]
        content["folder"] = Path(content["folder"])
        content["resources"] = Resources(**content["resources"])
        return cls(**content)

    def is_done(self) -> bool:
        return read_json(self.done).get("spec") == self.spec

    def jobs(self) -> list[tuple[QueuedJob, str, str]]:
        """The task's jobs that have not ended, oldest first, with their spec and submission."""
        record = read_json(self.record)
        found = []
        for job in slurm.queue():
            if job.ended:
                continue
            mark = slurm.read_comment(job.comment)
            if mark is None and (job.id, job.name) == (record.get("job"), self.job_name):
                mark = {"output": str(self.outputs[0])} | record
            # another task may make the same file among others
            if mark is not None and mark["output"] == str(self.outputs[0]):
                task, _, submission = mark["submission"].partition("/")
                if task == self.folder.name:
                    found.append((job, mark["spec"], submission))
        return sorted(found, key=lambda item: int(item[0].id))

    def wait(self, job: str) -> None:
        """Returns when the step is done; shows the job's states and its log meanwhile."""
        log = self.log(job)
        announce(f"SLURM job {job}: log {log}")
        tail = _Tail(log)
        begin = time.time()
        next_look = time.monotonic()
        said, state, detail, ended_at = "", "", "", None
        while not self.is_done():
            tail.copy()
            if time.monotonic() >= next_look:
                before = detail
                message, state, detail = said, "", ""
                try:
                    age = 1.0 if ended_at else 0.9 * self.resources.poll_seconds
                    state, detail = self._state(job, age, begin)
                    message = f"SLURM job {job}: {state} {detail}".rstrip()
                except RuntimeError as error:  # the job runs on, whatever is wrong here
                    message = f"SLURM does not answer, trying again: {error}"
                if message != said:
                    announce(message)
                    said = message
                if detail == before and detail.strip("()") in NEVER_STARTS:
                    slurm.cancel(job)
                    raise JobError(f"SLURM job {job} for {self.name} cannot start: {detail}")
                if state in END_STATES or state == "UNKNOWN":
                    ended_at = ended_at or time.monotonic()
                    if time.monotonic() - ended_at >= self._settle_seconds(job, state):
                        if self.is_done():
                            break
                        tail.copy()
                        raise JobError(self._failure(job, state, detail))
                elif state:
                    ended_at = None
                hurry = ended_at is not None or self._reports()
                next_look = time.monotonic() + (1.0 if hurry else self.resources.poll_seconds)
            pause(1.0)
        tail.copy()

    def _settle_seconds(self, job: str, state: str) -> float:
        """How long a job must have ended before what it left is judged."""
        if self._reports():
            return 0.0
        late = state == "FAILED" and not self.log(job).exists()
        if late or state in ("COMPLETED", "UNKNOWN"):
            return max(SETTLE_SECONDS, self.resources.latency_seconds)
        return SETTLE_SECONDS

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
        return [read_json(path) for path in (self.folder / self.submission).glob("failed-*.json")]

    def _failure(self, job: str, state: str, detail: str) -> str:
        """Why the job failed: one sentence, then the last lines of its log."""
        report = min(self._reports(), key=lambda item: item["time"], default=None)
        log = self.log(job, report["rank"] if report else 0)
        said = _last_bytes(log).splitlines() if log.exists() else []
        why = self._why(job, state, detail, report["message"] if report else "", log.exists())
        failure = f"SLURM job {job} for {self.name} failed: {why}"
        if not said:
            return failure
        text = "\n".join(f"  {line}" for line in said[-LAST_LINES:])
        return f"{failure}\nthe end of {log}:\n{text}"

    def _why(self, job: str, state: str, detail: str, report: str, logged: bool) -> str:
        logs = (self.folder / self.submission).glob(f"{job}_*_log.out")
        if any(OUT_OF_MEMORY.search(_last_bytes(path)) for path in logs):
            state, detail = "OUT_OF_MEMORY", ""
        # what a rank says then is that it has lost another one
        if report and state in ("OUT_OF_MEMORY", "NODE_FAIL"):
            return f"{END_STATES[state]} (a process said: {report})"
        if report:
            return report
        if state == "UNKNOWN":
            return "it left no result, and SLURM has forgotten why"
        if not logged and state == "CANCELLED":
            return f"{END_STATES[state]} before it ran"
        if not logged and state in ("FAILED", "COMPLETED"):
            return (
                f"it left no log: its nodes cannot see {self.folder} ({detail}); move the project "
                "to a file system that all nodes share"
            )
        return f"{END_STATES[state]} ({state}, {detail})" if detail else END_STATES[state]

    def stop(self, stopped: Stopped) -> None:
        """Cancels the task's jobs, or leaves them to the next run."""
        if not stopped.cancels or self.resources.on_interrupt == "leave":
            return announce(f"the job that makes {self.name} is left: the next run waits for it")
        try:
            with signals_blocked():  # a second Ctrl-C would end scancel
                for job, _, _ in self.jobs():
                    slurm.cancel(job.id)
                    announce(f"cancelled SLURM job {job.id}, which made {self.name}")
        except RuntimeError as error:
            announce(f"the job that makes {self.name} could not be cancelled: {error}")

    def collect(self) -> None:
        """Links what the step made to its place, each file whole or not at all."""
        missing = [path.name for path in self.outputs if not (self.staged / path.name).exists()]
        if missing:
            self.done.unlink(missing_ok=True)
            raise JobError(
                f"the job for {self.name} did not write {', '.join(missing)} in {self.staged}: "
                "run the same again"
            )
        for source in files_below(self.staged):
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
    def name(self) -> str:
        with contextlib.suppress(ValueError):
            return str(self.outputs[0].relative_to(Path.cwd()))
        return str(self.outputs[0])


# --- signals ---


class Stopped(BaseException):
    """A signal came, or who started this process is gone."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        self.cancels = number in (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
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


def pause(seconds: float) -> None:
    """Sleeps; raises Stopped when a signal has come or the workflow is dead."""
    end = time.monotonic() + seconds
    while True:
        if _stopped_by is not None:
            raise Stopped(_stopped_by)
        # in a rule: Snakemake was killed, its next run waits for the job
        if terminal() is not None and _starters() != _started_by:
            raise Stopped(signal.SIGHUP)
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 1.0))


def _starters() -> list[int]:
    """The process that started this one; where that is a shell that a rule runs in, its own too."""
    parent = os.getppid()
    try:
        name, _, rest = Path(f"/proc/{parent}/stat").read_text().rpartition(") ")
    except OSError:  # it has just ended, or this is no Linux
        return [parent]
    return [parent, int(rest.split()[1])] if name.partition("(")[2] in SHELLS else [parent]


_started_by = _starters()  # of a rule: Snakemake


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Also for the commands started meanwhile: a terminal signals all of its processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- a process of its own ---


def wait_in_small_process(task: Task, job: str) -> None:
    """This process becomes one that waits for the job and collects; it does not return.

    For a rule, whose terminal and log the new process takes over.
    """
    handle = terminal()
    assert handle is not None
    os.set_inheritable(handle, True)
    sys.stderr.flush()
    command = [sys.executable, "-m", "e2mc.cluster.waiting", task.as_text(), job]
    with signals_blocked():  # until the new process notes them
        pause(0)  # none came before
        os.execv(sys.executable, [*command, str(handle), json.dumps(_started_by)])


def main(text: str, job: str, handle: str, started_by: str) -> None:
    """What the new process does."""
    global _started_by
    _started_by = json.loads(started_by)
    with told_on(int(handle)), stop_signals():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        task = Task.of_text(text)
        try:
            task.wait(job)
            task.collect()
        except Stopped as stopped:
            task.stop(stopped)
            sys.exit(stopped.status)


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


def files_below(folder: Path) -> list[Path]:
    """The files in a folder and below it, but for those that a killed job was writing."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if not (path.name.startswith(".") and path.suffix == ".part")]


def _last_bytes(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file that is whole or absent; empty when it is absent."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


if __name__ == "__main__":
    main(*sys.argv[1:])
