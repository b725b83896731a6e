"""Errors that are told in a sentence; any other is a fault of this code and keeps its traceback."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


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


def expect_number(
    value: object,
    what: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raises InputError unless ``value`` is a finite number within these bounds."""
    bounds = [
        (at_least, "of at least", lambda x, bound: x >= bound),
        (above, "above", lambda x, bound: x > bound),
        (at_most, "at most", lambda x, bound: x <= bound),
        (below, "below", lambda x, bound: x < bound),
    ]
    given = [(bound, words, holds) for bound, words, holds in bounds if bound is not None]
    if (
        not isinstance(value, Real)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not all(holds(value, bound) for bound, _, holds in given)
    ):
        wanted = " and ".join(f"{words} {bound:g}" for bound, words, _ in given)
        raise InputError(f"{what} must be a finite number {wanted}, found {value!r}")


def expect_integer(value: object, what: str, at_least: int) -> None:
    """Raises InputError unless ``value`` is a whole number, and not below ``at_least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < at_least:
        raise InputError(f"{what} must be a whole number of at least {at_least}, found {value!r}")


def expect_default(settings: Any, names: Iterable[str], why: str) -> None:
    """Raises InputError for a setting that is given though nothing would read it.

    Args:
        settings: a dataclass.
        names: fields that nothing reads, each with a default.
        why: why not, and what else could be set.
    """
    defaults = {entry.name: entry.default for entry in dataclasses.fields(settings)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name]:
            raise InputError(f"{name} is {value}, but {why}, or leave {name} out")
