"""Files that are either whole or absent, and the fingerprints that tell them apart."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` when the block succeeds.

    A process killed in the block leaves ``path`` as it was. Raises OSError with the file's name in
    one sentence when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error.strerror}; free some space or choose a folder that you "
            "may write to"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error.strerror or error}; is the disk full?"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_atomically(content: Any, path: Path) -> None:
    """``torch.save`` to a file that is either whole or absent."""
    import torch  # waiting for a job needs the rest of this module without it

    with atomic_path(path) as temporary:
        try:
            # a path would put the temporary name into the file, and equal contents would differ
            with temporary.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's zip writer reports a full disk this way
            raise OSError(str(error)) from error


def write_text(text: str, path: Path) -> None:
    """Writes UTF-8 text to a file that is either whole or absent."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(content: Any, path: Path) -> None:
    """Writes JSON to a file that is either whole or absent. NaN and infinity are refused."""
    write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(content: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that change when any value in ``content`` (JSON-able) changes."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
