"""Waits for a SLURM job, shows what it does, and says in one sentence why it failed."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2mc.cluster import slurm
from e2mc.cluster.console import announce
from e2mc.cluster.signals import pause
from e2mc.cluster.slurm import END_STATES, NEVER_STARTS, OUT_OF_MEMORY, Resources
from e2mc.cluster.staging import JobFolder, read_json
from e2mc.errors import EXPECTED_ERRORS, MachineError

LAST_LINES = 12
TAIL_BYTES = 16_384
# a job that ended may be requeued a moment later
SETTLE_SECONDS = 6.0


class JobError(MachineError):
    """A SLURM job that failed: why, where its log is, and the log's last lines."""


@dataclass(frozen=True)
class Job:
    """A job that was submitted.

    Args:
        id: its number.
        submission: the folder of its own files and logs, within that of its task.
        folder: that of its task.
        resources: how it is waited for.
    """

    id: str
    submission: str
    folder: JobFolder
    resources: Resources

    @property
    def path(self) -> Path:
        """The folder of its own files and logs."""
        return self.folder.path / self.submission

    def log(self, rank: int = 0) -> Path:
        return self.path / f"{self.id}_{rank}_log.out"

    def wait(self) -> None:
        """Returns when the task is done; shows the job's states and its log meanwhile."""
        log = self.log()
        announce(f"SLURM job {self.id}: log {log}")
        tail = _Tail(log)
        begin = time.time()
        next_look = time.monotonic()
        said, state, detail, ended_at = "", "", "", None
        while not self.folder.is_done():
            tail.copy()
            if time.monotonic() >= next_look:
                before = detail
                message, state, detail = said, "", ""
                try:
                    age = 1.0 if ended_at else 0.9 * self.resources.poll_seconds
                    state, detail = self._state(age, begin)
                    message = f"SLURM job {self.id}: {state} {detail}".rstrip()
                except EXPECTED_ERRORS as error:  # the job runs on, whatever is wrong here
                    message = f"SLURM does not answer, trying again: {error}"
                if message != said:
                    announce(message)
                    said = message
                if detail == before and detail.strip("()") in NEVER_STARTS:
                    slurm.cancel(self.id)
                    raise JobError(
                        f"SLURM job {self.id} for {self.folder.name} cannot start: {detail}"
                    )
                if state in END_STATES or state == "UNKNOWN":
                    ended_at = ended_at or time.monotonic()
                    if time.monotonic() - ended_at >= self._settle_seconds(state):
                        if self.folder.is_done():
                            break
                        tail.copy()
                        raise JobError(self._failure(state, detail))
                elif state:
                    ended_at = None
                hurry = ended_at is not None or self._reports()
                next_look = time.monotonic() + (1.0 if hurry else self.resources.poll_seconds)
            pause(1.0)
        tail.copy()

    def _settle_seconds(self, state: str) -> float:
        """How long the job must have ended before what it left is judged."""
        if self._reports():
            return 0.0
        late = state == "FAILED" and not self.log().exists()
        if late or state in ("COMPLETED", "UNKNOWN"):
            return max(SETTLE_SECONDS, self.resources.latency_seconds)
        return SETTLE_SECONDS

    def _state(self, age: float, since: float) -> tuple[str, str]:
        """State and detail of the job, which SLURM may have forgotten: UNKNOWN."""
        for found in slurm.queue(age, since):
            if found.id == self.id:
                if found.ended:
                    break
                reason = "" if found.reason == "None" else f"({found.reason})"
                return found.state, f"on {found.nodes}" if found.nodes else reason
        return slurm.final_state(self.id) or ("UNKNOWN", "to SLURM")

    def _reports(self) -> list[dict[str, Any]]:
        """What the ranks said when they failed."""
        return [read_json(path) for path in self.path.glob("failed-*.json")]

    def _failure(self, state: str, detail: str) -> str:
        """Why the job failed: one sentence, then the last lines of its log."""
        report = min(self._reports(), key=lambda item: item["time"], default=None)
        log = self.log(report["rank"] if report else 0)
        said = _last_bytes(log).splitlines() if log.exists() else []
        why = self._why(state, detail, report["message"] if report else "", log.exists())
        failure = f"SLURM job {self.id} for {self.folder.name} failed: {why}"
        if not said:
            return failure
        text = "\n".join(f"  {line}" for line in said[-LAST_LINES:])
        return f"{failure}\nthe end of {log}:\n{text}"

    def _why(self, state: str, detail: str, report: str, logged: bool) -> str:
        logs = self.path.glob(f"{self.id}_*_log.out")
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
                f"it left no log: its nodes cannot see {self.folder.path} ({detail}); move the "
                "project to a file system that all nodes share"
            )
        return f"{END_STATES[state]} ({state}, {detail})" if detail else END_STATES[state]


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


def _last_bytes(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
