"""Where libraries keep caches, in containers too, whose home cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(".snakemake/cache")


def caches() -> Path:
    """The folder of caches, as libraries look for it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))


def writable(folder: Path) -> bool:
    """Whether files can be written to a folder, which is made where it is not there."""
    if not folder.is_absolute():  # no home is known
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def give_caches() -> None:
    """Lets this process and its jobs keep caches in the checkout where they cannot in the home.

    Snakemake's own is settled before a Snakefile is read: profiles/default leaves it out.
    """
    if not writable(caches()):
        os.environ["XDG_CACHE_HOME"] = str(HERE.resolve())
        os.environ.setdefault("MPLCONFIGDIR", str(HERE.resolve() / "matplotlib"))
