"""What is wrong with somebody's data."""

from __future__ import annotations

from e2mc.errors import InputError


class DataError(InputError):
    """Data that are missing or not what they should be, with what to do, in one sentence."""

    def __init__(self, message: str) -> None:
        # names are bytes on disk; what is not UTF-8 in them could be printed or logged nowhere
        super().__init__(message.encode("utf-8", "backslashreplace").decode())
