"""A wish to stop soon, made by a signal handler and fulfilled where the work can be taken up again.

Clusters announce the end of a job (time limit, preemption) by a signal. Long steps look here where
nothing is half done, save their state and raise ``Interrupted``; the same call then goes on.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

_wish = False


class Interrupted(RuntimeError):
    """A step that stopped when it was asked to; its state is saved, and the same call goes on."""


def request() -> None:
    """Ask whatever runs in this process to stop. Safe in a signal handler."""
    global _wish
    _wish = True


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _wish


def clear() -> None:
    """Forget the wish, before the next step in the same process."""
    global _wish
    _wish = False


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks to stop, a second one raises KeyboardInterrupt."""

    def stop(*_: Any) -> None:
        if requested():
            raise KeyboardInterrupt
        request()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        clear()
        for number, handler in previous.items():
            signal.signal(number, handler)
