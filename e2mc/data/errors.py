"""What is wrong with somebody's data."""

from __future__ import annotations

from e2mc.errors import InputError


class DataError(InputError):
    """Data that are missing or not what they should be, with what to do, in one sentence."""
