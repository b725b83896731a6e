"""iNaturalist 2018: 8,142 species, listed in ``train2018.json`` and ``val2018.json``.

Source: Van Horn et al. 2018, arXiv 1707.06642; github.com/visipedia/inat_comp.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles

LISTS = ("train2018.json", "val2018.json")


def read_inaturalist_2018(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``train2018.json`` and of ``val2018.json``, in the order of the files.

    Both lie in ``folder``, and the names in them are relative to it. Classes are the categories of
    the training file by their number.

    Raises:
        DataError: when a file is missing or not of this format, an image is not on disk or has no
            category, or a category has no training image.
    """
    parts = ("images", "annotations")
    contents = [_read(folder / LISTS[0], (*parts, "categories")), _read(folder / LISTS[1], parts)]
    categories = {
        int(entry["id"]): str(entry.get("name", entry["id"])) for entry in contents[0]["categories"]
    }
    numbers = {category: number for number, category in enumerate(sorted(categories))}
    names = [categories[category] for category in sorted(categories)]
    train, val = (
        _files(folder, list_name, content, numbers, names)
        for list_name, content in zip(LISTS, contents, strict=True)
    )
    empty = (torch.bincount(train.labels, minlength=len(names)) == 0).nonzero().flatten().tolist()
    if empty:
        raise DataError(
            f"{len(empty)} of the {len(names)} categories of {folder / LISTS[0]} have no training "
            f"image, e.g. {names[empty[0]]}: the file is not the published one"
        )
    return train, val


def _read(path: Path, wanted: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}): set data_folders.inaturalist-2018 in "
            f"config.yaml to the folder that holds {' and '.join(LISTS)}"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): fetch it again") from None
    missing = [key for key in wanted if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}: expected the published file with "
            f"{', '.join(wanted)}"
        )
    return content


def _files(
    folder: Path,
    list_name: str,
    content: dict[str, Any],
    numbers: dict[int, int],
    names: list[str],
) -> ImageFiles:
    path = folder / list_name
    try:
        categories = {entry["image_id"]: entry["category_id"] for entry in content["annotations"]}
        files = [entry["file_name"] for entry in content["images"]]
        found = [categories.get(entry["id"]) for entry in content["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: an entry lacks {error}: expected the published file") from None
    unknown = [file for file, category in zip(files, found, strict=True) if category not in numbers]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} of {len(files)} images have no known category, e.g. "
            f"{unknown[0]}: {LISTS[0]} and {LISTS[1]} do not belong together"
        )
    absent = _absent(folder, files)
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(files)} images of {path} are not in {folder}, e.g. "
            f"{absent[0]}: unpack the images beside the list"
        )
    labels = torch.tensor([numbers[category] for category in found if category is not None])
    return ImageFiles.of(folder, files, labels, names)


def _absent(folder: Path, files: list[str]) -> list[str]:
    """Those that are not on disk; each folder is listed once, which network disks can bear."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_folder[os.path.dirname(file)].append(file)
    absent = []
    for parent, members in by_folder.items():
        try:
            there = set(os.listdir(folder / parent))
        except OSError:
            there = set()
        absent += [file for file in members if os.path.basename(file) not in there]
    return absent
