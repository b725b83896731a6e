"""Long loops: how far they are, and the wish to stop them.

Clusters announce the end of a job (time limit, preemption) by a signal. Long steps look for it
where nothing is half done, save their state and raise ``Interrupted``; the same call goes on.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from e2mc.errors import ExpectedError

_wish = False


class Interrupted(ExpectedError):
    """A step that stopped when it was asked to; its state is saved, and the same call goes on."""


def request_stop() -> None:
    """Ask whatever runs in this process to stop. Safe in a signal handler."""
    global _wish
    _wish = True


def stop_requested() -> bool:
    """Whether this process was asked to stop."""
    return _wish


def forget_stop() -> None:
    """Forget the wish, before the next step in the same process."""
    global _wish
    _wish = False


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks to stop, a second one raises KeyboardInterrupt."""

    def stop(*_: Any) -> None:
        if stop_requested():
            raise KeyboardInterrupt
        request_stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        forget_stop()
        for number, handler in previous.items():
            signal.signal(number, handler)


class Progress:
    """Counts the steps of a loop on standard error.

    Args:
        what: what is being done, for the beginning of the line.
        total: number of steps.
        done: steps that an earlier run has already made.
        unit: what a step handles, for the rate, e.g. "images".
        per_step: how many units a step handles.
        show: False counts in silence, for all but one of several processes.
    """

    LINE_EVERY_SECONDS = 15.0

    def __init__(
        self,
        what: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "steps",
        per_step: int = 1,
        show: bool = True,
    ) -> None:
        self.what, self.total, self.unit, self.per_step = what, total, unit, per_step
        self.first = self.done = done
        self.start = self.last_line = time.monotonic()
        self.show = show
        self.bar = None
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total * per_step, initial=done * per_step, desc=what, unit=f" {unit}"
            )

    def step(self) -> None:
        """One more step is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.per_step)
            if self.done == self.total:
                self.bar.close()
            return
        if not self.show:
            return
        now = time.monotonic()
        if self.done == self.total or now - self.last_line > self.LINE_EVERY_SECONDS:
            self.last_line = now
            rate = (self.done - self.first) / (now - self.start)
            left = (self.total - self.done) / rate
            print(
                f"{self.what}: step {self.done} of {self.total}, "
                f"{rate * self.per_step:,.0f} {self.unit}/s, {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )
