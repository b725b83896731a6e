"""Errors that are told in a sentence; any other is a fault of this code and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable


class ExpectedError(Exception):
    """Somebody's input, data or machine is not as it should be: what, where, and what to do."""

    def __str__(self) -> str:
        # names are bytes on disk: what is not UTF-8 in them can be sent nowhere as it is
        return super().__str__().encode(errors="backslashreplace").decode()


class InputError(ExpectedError, ValueError):
    """A value, name or file that cannot be used."""


class MachineError(ExpectedError, RuntimeError):
    """The machine, its GPU, its disk or its scheduler cannot do what was asked for."""


# no traceback; OSError: files that are missing, full disks, permissions
EXPECTED_ERRORS = (ExpectedError, OSError)


def expect_known(name: object, known: Iterable[object], what: str) -> None:
    """Raises InputError unless ``name`` is one of the known names of ``what``."""
    names = list(known)
    if name not in names:
        listed = ", ".join(map(str, names)) or "none"
        raise InputError(f"{what} {name!r} does not exist, expected one of {listed}")
