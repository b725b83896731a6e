"""Debian's packages, fetched with apt and unpacked: nothing is installed, whoever the user is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


def packages(names: Sequence[str], scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of each package, one after the other.

    Args:
        names: of the packages.
        scratch: a folder, there and empty, that the files are fetched into.

    Raises:
        OSError: when this machine has no apt, or apt finds or fetches a package not.
    """
    if shutil.which("apt-get") is None:
        raise OSError("this machine has no apt-get")
    own: list[str] = []
    for name in names:
        fetch = ["download", "-qq", name]
        try:
            quietly(["apt-get", *own, *fetch], cwd=scratch)
        except OSError:  # a fresh container has no package lists: they are fetched for this alone
            if own:
                raise
            own = _own_lists(scratch)
            quietly(["apt-get", *own, "update", "-qq"])
            quietly(["apt-get", *own, *fetch], cwd=scratch)
        yield name, next(scratch.glob(f"{name}_*.deb"))


def unpack(package: Path, folder: Path) -> None:
    """The files of a package, below a folder instead of below the root."""
    quietly(["dpkg-deb", "-x", str(package), str(folder)])


def _own_lists(folder: Path) -> list[str]:
    """Options of apt-get that leave the machine's package lists and its cache alone."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    return ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]


def quietly(command: list[str], **options) -> None:
    """Runs a command; its last line is in the OSError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise OSError(f"`{' '.join(command)}` failed: {' '.join(last)}")
