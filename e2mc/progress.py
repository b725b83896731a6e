"""Progress of a loop: a bar in a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time


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
