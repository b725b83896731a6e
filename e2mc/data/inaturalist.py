"""iNaturalist 2018: 8,142 species, listed in ``train2018.json`` and ``val2018.json``.

Source: Van Horn et al. 2018, arXiv 1707.06642; github.com/visipedia/inat_comp.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from e2mc.data.errors import DataError, expect_no_pointer
from e2mc.data.files import ImageFiles
from e2mc.data.listing import find_all, refuse_shared, refuse_two_labels

LISTS = ("train2018.json", "val2018.json")
WANTED: dict[
    str, dict[str, tuple[type, ...]]
] = {  # what an entry of each part must say, and of which types
    "images": {"id": (int, str), "file_name": (str,)},
    "annotations": {"image_id": (int, str), "category_id": (int,)},
    "categories": {"id": (int,)},
}


def read_inaturalist_2018(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``train2018.json`` and of ``val2018.json``, in the order of the files.

    Both lie in ``folder``, and the names in them are relative to it. Classes are the categories of
    the training file by their number.

    Raises:
        DataError: when a file is missing or not of this format, an id or a name stands twice, an
            image is not on disk, has no category or several, is in both files, or a category has
            no training image.
    """
    train, val = (_read(folder / name) for name in LISTS)
    if "categories" not in train:
        raise DataError(f"{folder / LISTS[0]} has no categories: expected the published file")
    categories = _categories(folder / LISTS[0], train)
    if "categories" in val:
        _agree(folder, categories, _categories(folder / LISTS[1], val))
    numbers = {category: number for number, category in enumerate(sorted(categories))}
    names = [categories[category] for category in sorted(categories)]
    found = [
        _labelled(folder / name, content, numbers) for name, content in zip(LISTS, (train, val))
    ]
    # what the lists say comes before what is on disk
    empty = sorted(set(range(len(names))) - set(found[0].values()))
    if empty:
        raise DataError(
            f"{len(empty)} of the {len(names)} categories of {folder / LISTS[0]} have no training "
            f"image, e.g. {names[empty[0]]}: the file is not the published one"
        )
    advice = "unpack the images beside the list"
    files = [
        find_all(folder, list(part), str(folder / name), advice) for name, part in zip(LISTS, found)
    ]
    refuse_shared(folder, *files)
    images = []
    for part, there in zip(found, files):
        labels = torch.tensor(list(part.values()))
        refuse_two_labels(folder, there, labels)
        images.append(ImageFiles.of(folder, list(part), labels, names))
    return images[0], images[1]


def _read(path: Path) -> dict[str, Any]:
    """The content, whose parts are lists of entries with what ``WANTED`` names."""
    try:
        text = path.read_bytes()
        expect_no_pointer(path, text)
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}): set data_folders.inaturalist-2018 in "
            f"config.yaml to the folder that holds {' and '.join(LISTS)}"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from None
    parts = [part for part in WANTED if part != "categories" or path.name == LISTS[0]]
    missing = [part for part in parts if not isinstance(content, dict) or part not in content]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}: expected the published file with "
            f"{', '.join(parts)}"
        )
    for part in WANTED.keys() & content.keys():
        if not isinstance(content[part], list) or not content[part]:
            raise DataError(f"{path}: {part} is no list of entries: expected the published file")
        for number, entry in enumerate(content[part]):
            _check_entry(path, f"{part}[{number}]", entry, WANTED[part])
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = _repeated(key for key, _ in pairs)
        raise ValueError(f"key {key!r} stands twice in one object")
    return found


def _check_entry(path: Path, where: str, entry: Any, wanted: dict[str, tuple[type, ...]]) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {where} is {entry!r:.60}, expected an object with {[*wanted]}")
    for key, types in wanted.items():
        if key not in entry:
            raise DataError(f"{path}: {where} lacks {key!r}: expected the published file")
        if type(entry[key]) not in types or entry[key] == "":  # a bool is an int
            expected = " or ".join({int: "a whole number", str: "a text"}[kind] for kind in types)
            raise DataError(f"{path}: {where}.{key} is {entry[key]!r:.60}, expected {expected}")


def _repeated(values: Iterable[Any]) -> Any:
    """One that stands there twice, or None."""
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _unique(path: Path, part: str, key: str, content: dict[str, Any]) -> None:
    twice = _repeated(str(entry[key]) for entry in content[part] if key in entry)
    if twice is not None:
        raise DataError(
            f"{path}: {key} {twice} stands twice in {part}: each needs one of its own; fetch the "
            "published file"
        )


def _categories(path: Path, content: dict[str, Any]) -> dict[int, str]:
    """Number -> name."""
    _unique(path, "categories", "id", content)
    return {entry["id"]: str(entry.get("name", entry["id"])) for entry in content["categories"]}


def _agree(folder: Path, train: dict[int, str], val: dict[int, str]) -> None:
    """Raises DataError when the two files call one number by two names."""
    differ = [number for number, name in val.items() if train.get(number, name) != name]
    if differ:
        one = differ[0]
        raise DataError(
            f"category {one} is {train[one]!r} in {folder / LISTS[0]} and {val[one]!r} in "
            f"{LISTS[1]}: the two files do not belong together"
        )


def _labelled(path: Path, content: dict[str, Any], numbers: dict[int, int]) -> dict[str, int]:
    """File name -> class number, in the order of the images."""
    for part, key in (("images", "id"), ("images", "file_name"), ("annotations", "id")):
        _unique(path, part, key, content)
    known = {entry["id"] for entry in content["images"]}
    categories: dict[Any, int] = {}
    for entry in content["annotations"]:
        image, category = entry["image_id"], entry["category_id"]
        if image not in known:
            raise DataError(
                f"{path}: an annotation is of image {image!r}, which images does not list: fetch "
                "the published file"
            )
        if categories.setdefault(image, category) != category:
            raise DataError(
                f"{path}: image {image!r} has annotations of categories {categories[image]} and "
                f"{category}: expected one category per image"
            )
    entries = content["images"]
    unknown = [entry for entry in entries if categories.get(entry["id"]) not in numbers]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} of {len(entries)} images have no known category, e.g. "
            f"{unknown[0]['file_name']}: {LISTS[0]} and {LISTS[1]} do not belong together"
        )
    try:  # JSON is UTF-8 wherever it is read; names on disk are bytes
        files = [os.fsdecode(entry["file_name"].encode("utf-8")) for entry in entries]
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: file_name {error.object!r} is no text: correct it") from None
    return {
        file: numbers[categories[entry["id"]]] for file, entry in zip(files, entries, strict=True)
    }
