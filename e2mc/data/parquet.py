"""Images in Parquet files as the Hugging Face hub has them, ``data/train-00000-of-00002.parquet``.

A row has an image, a struct of its file's bytes and its path, and the number of its class. The
names of the classes stand in the metadata of the files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from e2mc.data.errors import LFS_POINTER, DataError, expect_no_pointer
from e2mc.data.files import ImageFiles
from e2mc.data.found import Found
from e2mc.errors import InputError
from e2mc.state import atomic_path

SHARD = re.compile(r"(?P<part>\w+)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?\.parquet")
PARTS = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}
IMAGE, LABEL = ("image", "img"), ("label", "fine_label")  # what the columns may be called
ROWS = 256  # that are in memory at a time


class Row(NamedTuple):
    """One image of a shard: its file's content, and the number of its class."""

    content: bytes | None
    label: int | None


class Shard(NamedTuple):
    """A file of rows.

    Attributes:
        rows: in their order.
        classes: names by number; empty where the file names none.
    """

    rows: Iterator[Row]
    classes: tuple[str, ...]


def read_parquet(folder: Path, unpack_to: Path | None) -> Found:
    """The images of the shards in ``folder/data``, or in ``folder`` itself, in their order.

    Images are unpacked as they are, each into a file named by its number and content; those that
    lie there already stay. Where the shards have a part ``validation`` and none for testing, that
    one is tested on.

    Args:
        folder: of the data set.
        unpack_to: a folder for the images.

    Raises:
        DataError: when pyarrow is not installed, a part or one of its shards is missing, a file or
            a row is not of this format, or a label has no class.
    """
    assert unpack_to is not None, "images of Parquet files are unpacked into a folder"
    parts = _shards(folder)
    names: tuple[str, ...] = ()
    files: dict[str, list[str]] = {}
    labels: dict[str, list[int]] = {}
    for part, paths in parts.items():
        files[part], labels[part] = [], []
        for path in paths:
            shard = open_shard(path)
            if names and shard.classes != names:
                raise DataError(
                    f"{path} names other classes than the shards before it: the files do not "
                    "belong together"
                )
            names = shard.classes
            for number, row in enumerate(shard.rows):
                place = f"{path}, row {number}"
                labels[part].append(_label(row, place))
                files[part].append(_unpack(row, place, unpack_to, part, len(files[part])))
    classes = names or _numbered(labels["train"], folder)
    found = {}
    for part, of_part in labels.items():
        missing = sorted(set(range(len(classes))) - set(of_part))
        if missing:
            raise DataError(
                f"{folder}: the {part} shards have no image of {len(missing)} of the "
                f"{len(classes)} classes, e.g. {classes[missing[0]]}: every class needs some"
            )
        try:
            numbers = torch.tensor(of_part, dtype=torch.long)  # False and True are numbers, too
            found[part] = ImageFiles.of(unpack_to, files[part], numbers, classes)
        except InputError as error:
            raise DataError(f"{folder}: the {part} shards: {error}") from None
    return Found.of_parts(found)


def _numbered(labels: list[int], folder: Path) -> tuple[str, ...]:
    """Names for the classes of files that name none."""
    largest = max(labels, default=0)
    if largest > len(labels):  # such as the number of an image
        raise DataError(
            f"{folder}: the train shards have labels up to {largest:,} for {len(labels):,} images: "
            "expected the numbers of classes from 0, every class with some images"
        )
    return tuple(map(str, range(1 + largest)))


def shard_folder(folder: Path) -> Path:
    """Where the shards of a data set lie: in ``folder/data``, or in ``folder`` itself."""
    return folder / "data" if (folder / "data").is_dir() else folder


def _shards(folder: Path) -> dict[str, list[Path]]:
    """Part -> its shards in their order."""
    root = shard_folder(folder)
    matches = [(path, SHARD.fullmatch(path.name)) for path in sorted(root.glob("*.parquet"))]
    numbered: dict[str, dict[int, Path]] = {}
    counts: dict[str, set[int]] = {}
    for path, match in matches:
        if match is None or match["part"] not in PARTS:
            raise DataError(
                f"{path} is no shard of {', '.join(PARTS)}: expected names such as "
                "train-00000-of-00002.parquet; move it elsewhere"
            )
        part = PARTS[match["part"]]
        if int(match["number"]) in numbered.setdefault(part, {}):
            raise DataError(
                f"{path} stands beside {numbered[part][int(match['number'])].name}, which is the "
                "same shard: remove one of them"
            )
        numbered[part][int(match["number"])] = path
        counts.setdefault(part, set()).add(int(match["count"]))
    if "train" not in numbered:
        raise DataError(
            f"{root} has no train-00000-of-….parquet: name the folder that holds data/ with the "
            "shards"
        )
    for part, there in numbered.items():
        count = max(counts[part])
        missing = sorted(set(range(count)) - there.keys())
        if missing or len(counts[part]) > 1:
            lacking = f"shard {missing[0]:05d} of {part}" if missing else f"one number of {part}"
            raise DataError(f"{root} lacks {lacking}, of {count:05d} in all: fetch the files again")
    return {part: [there[n] for n in sorted(there)] for part, there in numbered.items()}


def _label(row: Row, place: str) -> int:
    if row.label is None or row.label < 0:
        raise DataError(
            f"{place}: label is {row.label}, expected the number of a class: rows without one "
            "cannot be tested on; leave that part out"
        )
    return row.label


def _unpack(row: Row, place: str, folder: Path, part: str, number: int) -> str:
    """Writes the file of an image, if it is not there; its name relative to ``folder``."""
    if not row.content:
        raise DataError(
            f"{place}: the image has no bytes, only a path: embed the images when the data set is "
            "saved"
        )
    digest = hashlib.sha256(row.content).hexdigest()[:16]
    name = f"{part}/{number:07d}-{digest}"
    if not (folder / name).is_file():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(row.content)
    return name


def open_shard(path: Path) -> Shard:
    """One file, whose rows are read a few at a time.

    Raises DataError when pyarrow is not installed, or the file is not of this format.
    """
    with path.open("rb") as begin:
        expect_no_pointer(path, begin.read(len(LFS_POINTER)))
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise DataError(
            f"{path} needs pyarrow, which is not installed: `pip install 'e2mc[parquet]'`"
        ) from None
    try:
        file = ParquetFile(path)
        schema = file.schema_arrow
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no Parquet file ({_line(error)}): fetch it again") from None
    columns = [
        next((name for name in known if schema.names.count(name) == 1), None)
        for known in (IMAGE, LABEL)
    ]
    image, label = columns
    if image is None or label is None:
        raise DataError(
            f"{path} has the columns {', '.join(schema.names)}, expected {IMAGE[0]} and {LABEL[0]}"
        )

    def rows() -> Iterator[Row]:
        try:
            for batch in file.iter_batches(ROWS, columns=columns):
                pairs = zip(batch.column(image).to_pylist(), batch.column(label).to_pylist())
                yield from (_row(path, cell, number) for cell, number in pairs)
        except (OSError, ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{path} is damaged ({_line(error)}): fetch it again") from None

    return Shard(rows(), class_names(schema.metadata or {}, label))


def _row(path: Path, cell: Any, label: Any) -> Row:
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if (cell is not None and not isinstance(cell, dict)) or not isinstance(label, int | None):
        raise DataError(
            f"{path}: found a row of {type(cell).__name__} and {type(label).__name__}, expected a "
            "struct of bytes and path, and a whole number"
        )
    if not isinstance(content, bytes | None):
        raise DataError(
            f"{path}: the bytes of an image are of type {type(content).__name__}, expected binary: "
            "save the data set anew"
        )
    return Row(content, label)


def class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """What the metadata of a file call the classes of a column; empty where they do not.

    Source: huggingface/datasets, which writes the features of a data set as JSON.
    """
    try:
        content = json.loads(metadata[b"huggingface"])
        return tuple(map(str, content["info"]["features"][label]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
