"""What a rule says: to its log, which is its standard error, and to the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from e2mc.errors import EXPECTED_ERRORS

_terminal: int | None = None  # of a rule, whose standard error is its log


def terminal() -> int | None:
    """The file descriptor of a rule's terminal; None in a process that is no rule."""
    return _terminal


def announce(message: str) -> None:
    """One line on standard error and, in a rule, on the terminal."""
    print(message, file=sys.stderr, flush=True)
    if _terminal is not None:
        with contextlib.suppress(OSError):  # the terminal may be closed
            os.write(_terminal, f"{message}\n".encode(errors="backslashreplace"))


@contextlib.contextmanager
def logged(log: str) -> Iterator[None]:
    """Standard output and error go to ``log``; an expected error is one line on the terminal.

    Exits with status 1 after an expected error, whose traceback is in the log; anything else is a
    fault of this code and is raised.
    """
    handle = os.dup(2)
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with told_on(handle):
        yield


@contextlib.contextmanager
def told_on(handle: int) -> Iterator[None]:
    """The same where standard output and error are the log already, and ``handle`` the terminal."""
    global _terminal
    _terminal = handle
    try:
        yield
    except EXPECTED_ERRORS as error:
        traceback.print_exc()
        os.write(handle, f"error: {error}\n".encode(errors="backslashreplace"))
        sys.exit(1)
