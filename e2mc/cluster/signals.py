"""Signals to a process that waits for a job, and the end of the workflow that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2mc.cluster.console import terminal

SHELLS = {"bash", "sh", "dash"}
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

_stopped_by: int | None = None  # the signal that came


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
