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
    _tell(message)


@contextlib.contextmanager
def logged(log: str) -> Iterator[None]:
    """Standard output and error go to ``log``, and the terminal has one line about an error.

    Exits with status 1 after an expected error, whose traceback is in the log. Anything else is a
    fault of this code and is raised; Python writes its traceback to the log.
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
        _tell(f"error: {error}")
        sys.exit(1)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        _tell(f"a fault of the code, not of its input: {what}; its traceback is in {log}")
        raise


def _tell(message: str) -> None:
    """One line on the terminal of a rule."""
    if _terminal is not None:
        with contextlib.suppress(OSError):  # the terminal may be closed
            os.write(_terminal, f"{message}\n".encode(errors="backslashreplace"))
