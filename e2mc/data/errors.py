"""What is wrong with somebody's data."""

from __future__ import annotations

from pathlib import Path

from e2mc.errors import InputError

LFS_POINTER = b"version https://git-lfs"


class DataError(InputError):
    """Data that are missing or not what they should be, with what to do, in one sentence."""


def expect_no_pointer(path: Path, content: bytes) -> None:
    """Raises DataError where a file of Git LFS is not here but in its store.

    Args:
        path: the file.
        content: its first bytes, or all of them.
    """
    if content.startswith(LFS_POINTER):
        raise DataError(f"{path} is a pointer of Git LFS, not the file: run `git lfs pull` there")
