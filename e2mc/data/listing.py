"""What lies in folders of images: which files can be used, and which are one and the same."""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from e2mc.data.errors import DataError

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# what operating systems, disk stations and notebooks leave in folders
SYSTEM_FOLDERS = frozenset(
    (
        "lost+found",
        "@eaDir",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "__MACOSX",
        "__pycache__",
    )
)
THREADS = 16  # that ask a network disk at a time


class File(NamedTuple):
    """A file behind its name, through links: size in bytes, and the two numbers that it is."""

    size: int
    device: int
    inode: int


@dataclass(frozen=True)
class Listing:
    """Entries of one folder.

    Attributes:
        files: name -> regular file that is not empty.
        left_out: name -> why an entry that was wanted is no such file.
    """

    files: dict[str, File] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def is_image(name: str) -> bool:
    """By its name; macOS leaves hidden files beside images that end like them."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_class_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder of somebody's, neither hidden nor of a system."""
    return entry.is_dir() and not is_left_behind(entry.name)


def is_left_behind(name: str) -> bool:
    """Whether a folder is hidden or of a system, by its name."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def list_folders(folders: Sequence[Path], wanted: Callable[[Path, str], bool]) -> Iterator[Listing]:
    """The entries of each folder whose (folder, name) is wanted.

    Each entry costs one question to the disk, so folders are asked side by side. Folders that do
    not exist have none.
    """

    def listing(folder: Path) -> Listing:
        found = Listing()
        try:
            entries = os.scandir(folder)
        # ValueError: a name of a list may hold a zero byte
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return found
        with entries:
            for entry in entries:
                if wanted(folder, entry.name):
                    why = _add(entry, found.files)
                    if why:
                        found.left_out[entry.name] = why
        return found

    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(listing, folders)


def _add(entry: os.DirEntry[str], files: dict[str, File]) -> str | None:
    """Adds a regular file that is not empty, else says what the entry is."""
    try:
        status = entry.stat()
    except OSError as error:
        return "a link that points nowhere" if entry.is_symlink() else str(error.strerror)
    if stat.S_ISDIR(status.st_mode):
        return "a folder"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    if status.st_size == 0:
        return "empty"
    files[entry.name] = File(status.st_size, status.st_dev, status.st_ino)
    return None


def find_listed(folder: Path, names: Sequence[str]) -> tuple[dict[str, File], dict[str, str]]:
    """Files of a list by their names relative to ``folder``: those that can be used, and why not.

    Each folder is listed once, which network disks can bear.
    """
    members: dict[Path, dict[str, str]] = {}
    for name in names:
        parent, base = os.path.split(name)
        members.setdefault(folder / parent, {})[base] = name
    listings = list_folders(list(members), lambda parent, base: base in members[parent])
    files: dict[str, File] = {}
    why: dict[str, str] = {}
    for listed, listing in zip(members.values(), listings, strict=True):
        for base, name in listed.items():
            if base in listing.files:
                files[name] = listing.files[base]
            else:
                why[name] = listing.left_out.get(base, "missing")
    return files, why


def find_all(
    folder: Path, names: Sequence[str], what: str, advice: str, below: str = ""
) -> dict[str, File]:
    """Files of a list, all of which must be there, in its order.

    Args:
        folder: what the names are relative to.
        names: of the files.
        what: whose images they are, for the message.
        advice: what to do where some are not there.
        below: the folder in ``folder`` that holds all of them, if one does.

    Raises:
        DataError: with how many are not there, and an example.
    """
    there, why = find_listed(folder, names)
    if why:
        example = next(name for name in names if name in why)
        raise DataError(
            f"{len(why):,} of the {len(names):,} images of {what} are not in {folder / below}, "
            f"e.g. {example.removeprefix(f'{below}/')} ({why[example]}): {advice}"
        )
    return {name: there[name] for name in names}


def summary(left_out: Mapping[str, str]) -> str:
    """How many entries that are named like images are none, with an example; or nothing."""
    if not left_out:
        return ""
    name, why = next(iter(left_out.items()))
    return f"{len(left_out):,} named like images left out, e.g. {name} ({why})"


def refuse_shared(root: Path, train: Mapping[str, File], test: Mapping[str, File]) -> None:
    """Raises DataError when an image of ``test`` is one of ``train`` too.

    That is: the same file, through links of either kind, or a copy under the same name (file and
    folder). Copies under another name are not looked for, which would mean to read every image.

    Args:
        root: what the names are relative to.
        train, test: name -> file.
    """
    by_key: dict[tuple, str] = {}
    for name, file in test.items():
        for key in _keys(name, file):
            by_key.setdefault(key, name)
    candidates = (
        (name, by_key[key])
        for name, file in train.items()
        for key in _keys(name, file)
        if key in by_key
    )
    pair = _first_equal(root, candidates)
    if pair is not None:
        raise DataError(
            f"{root / pair[1]} is the same image as {root / pair[0]}: images that are trained on "
            "cannot be tested on; give the two parts images of their own"
        )


def refuse_two_labels(root: Path, files: Mapping[str, File], labels: Tensor) -> None:
    """Raises DataError when one file stands under two names with different labels.

    Args:
        root: what the names are relative to.
        files: N names -> file.
        labels: (N,) or (N, K), in the order of ``files``.
    """
    known = np.array([file[1:] for file in files.values()], dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort(known.T)
    again = (known[order[1:]] == known[order[:-1]]).all(axis=1) & (known[order[1:], 1] != 0)
    pairs = np.stack((order[:-1], order[1:]), axis=1)[again]
    names = list(files) if len(pairs) else []
    candidates = (
        (names[one], names[other])
        for one, other in pairs.tolist()
        if (labels[one] != labels[other]).any()
    )
    pair = _first_equal(root, candidates)
    if pair is not None:
        raise DataError(
            f"{root / pair[0]} and {root / pair[1]} are one file with two different labels: "
            "remove one of them"
        )


def _keys(name: str, file: File) -> Iterator[tuple]:
    """What two names of one image have in common."""
    if file.inode:  # some network disks give no numbers
        yield file.device, file.inode
    yield *name.split("/")[-2:], file.size


def _first_equal(root: Path, pairs: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The first pair that is equal byte by byte: numbers of network disks may come twice."""
    for one, other in pairs:
        if filecmp.cmp(root / one, root / other, shallow=False):
            return one, other
    return None
