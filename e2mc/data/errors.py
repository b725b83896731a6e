"""What is wrong with somebody's data."""

from __future__ import annotations


class DataError(ValueError):
    """Data that are missing or not what they should be, with what to do, in one sentence."""
