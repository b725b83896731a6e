"""The images of a study: published files into splits, or folders of images into lists."""

from __future__ import annotations

import os
from pathlib import Path

from e2mc.checkpoints.download import Source, download
from e2mc.data.errors import DataError
from e2mc.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
from e2mc.data.files import ImageFiles
from e2mc.data.found import Expected, divide
from e2mc.data.glyph_fonts import fetch_fonts
from e2mc.data.glyphs import load_glyphs
from e2mc.data.images import Splits
from e2mc.data.on_disk import find_images
from e2mc.data.subsets import stratified_split
from e2mc.data.torchvision_sets import read_torchvision
from e2mc.data.transfer import compose_outfits, load_digits
from e2mc.state import sha256
from e2mc.steps.code import code_of
from e2mc.study import (
    Config,
    CountedData,
    CountedImages,
    Glyphs,
    Images,
    LabelList,
    OnDisk,
    Study,
    TorchvisionImages,
    data_folder,
    load_study,
)
from e2mc.task import Task


def preparation_task(study: Study, folder: Path | None) -> Task:
    """Fetching, checking and splitting Fashion-MNIST, and making the data sets to transfer to.

    Args:
        study: which data.
        folder: where the published files are; None to have them fetched.

    Raises:
        DataError: when the study has other data.
    """
    if isinstance(study.data, CountedData):
        raise DataError(
            f"the images of study {study.name} are files of yours or torchvision's, or drawn from "
            f"fonts, which are listed and not prepared: use `e2mc check-data --study {study.name}`"
        )
    return Task.of(
        "e2mc.steps.data:prepare_data",
        {"study": study.source, "folder": folder},
        {},
        {name: study.dataset_path(name) for name in study.data.names},
        {"data": study.data.model_dump(mode="json"), "folder": folder},
        code_of("steps/data.py"),
    )


def prepare_data(task: Task) -> None:
    """Fetches, checks and splits Fashion-MNIST, and makes the data sets to transfer to.

    Raises DataError when the files are not the published ones.
    """
    study, folder = load_study(task.arguments["study"]), _folder(task)
    task.expect(preparation_task(study, folder))
    data = study.data
    assert not isinstance(data, CountedData)
    whole, test = load_fashion_mnist(fetch_fashion_mnist(folder, downloads_folder(study)))
    rest, held_out = stratified_split(whole.labels, data.validation, data.split_seed)
    if data.train is not None:
        rest = rest[stratified_split(whole.labels[rest], data.train, data.split_seed)[1]]
    images = Splits(whole.subset(rest), whole.subset(held_out), test)
    images.save(task.output("images"))
    load_digits(data.image_size, data.split_seed).save(task.output("digits"))
    compose_outfits(images, data.outfits, data.split_seed).save(task.output("outfits"))


def index_task(study: Study, name: str, folder: Path | None) -> Task:
    """Listing the images of one data set that says how many it has, or reading them.

    Args:
        study: which data.
        name: of the data set in the study.
        folder: where it is; None where nothing says so.
    """
    assert isinstance(study.data, CountedData)
    lists = _lists(study.data.every[name])
    return Task.of(
        "e2mc.steps.data:index_data",
        {"study": study.source, "dataset": name, "folder": folder},
        {},
        {"index": study.dataset_path(name)},
        study.data.decides_evaluation(name) | {"folder": folder, "lists": lists},
        code_of("steps/data.py"),
    )


def index_data(task: Task) -> None:
    """Counts, checks and lists the images of one data set.

    Raises DataError as ``find`` does.
    """
    study, name = load_study(task.arguments["study"]), task.arguments["dataset"]
    folder = _folder(task)
    task.expect(index_task(study, name, folder))
    find(study, name, folder).save(task.output("index"))


def find(study: Study, name: str, folder: Path | None) -> Splits:
    """The images of one data set, counted and checked.

    Raises DataError when there is no folder, or a count is not what the study says.
    """
    assert isinstance(study.data, CountedData)
    images, seed = study.data.every[name], study.data.split_seed
    if folder is not None:
        folder = Path(os.path.expanduser(folder))
    if isinstance(images, TorchvisionImages):
        found, place = read_torchvision(images.selection, folder, downloads_folder(study))
        expected = Expected(
            images.classes, images.train, images.test, images.validation, images.unlabelled, seed
        )
        return divide(found, expected, place, images.name)
    if isinstance(images, Glyphs):
        place = fetch_fonts(folder, downloads_folder(study))
        expected = Expected(images.classes, images.train, images.test, images.validation)
        return divide(load_glyphs(place, seed), expected, place, "glyphs")
    assert isinstance(images, Images)
    if folder is None:
        raise DataError(
            f"study {study.name} needs the images of {images.format}: set "
            f"data_folders.{images.format} in config.yaml, or data.sets.{name}.folder in the "
            "study, to their folder"
        )
    lists = {}
    for list_name, item in images.lists.items():
        path = label_list_path(study, list_name, item)
        if item.published:
            fetch_label_list(item, path)
        elif item.sha256 is not None and path.is_file() and sha256(path) != item.sha256:
            raise DataError(
                f"{path} has SHA-256 {sha256(path)}, the study names {item.sha256}: fetch it again"
            )
        lists[list_name] = path, item.count
    return find_images(
        images.format,
        folder,
        classes=images.classes,
        train=images.train,
        test=images.test,
        validation=images.validation,
        lists=lists,
        seed=seed,
        unpack_to=study.dataset_path(name).with_suffix(""),
    )


def downloads_folder(study: Study) -> Path:
    """Where published images and label lists are fetched to."""
    return data_folder(study.folder) / "downloads"


def label_list_path(study: Study, name: str, item: LabelList) -> Path:
    """Where a label list is, or is fetched to."""
    if item.published:
        return downloads_folder(study) / f"{name}.txt"
    return Path(os.path.expanduser(item.source))


def fetch_label_list(item: LabelList, path: Path) -> Source:
    """Fetches a published label list, unless it is there, and says what it is."""
    return download(item.source, path, archive=item.archive, expected_sha256=item.sha256)


def published_lists(study: Study) -> dict[Path, LabelList]:
    """Where it is fetched to -> label list, of all that a study downloads; sets may share one."""
    if not isinstance(study.data, OnDisk):
        return {}
    return {
        label_list_path(study, name, item): item
        for images in study.data.sets.values()
        for name, item in images.lists.items()
        if item.published
    }


def _folder(task: Task) -> Path | None:
    folder = task.arguments["folder"]
    return None if folder is None else Path(folder)


def _lists(images: CountedImages) -> dict[str, str | None]:
    """The label lists that are files of one's own, whose content is not in the study."""
    if not isinstance(images, Images):
        return {}
    return {
        name: sha256(path)
        for name, item in images.lists.items()
        if (path := Path(os.path.expanduser(item.source))).is_file()
    }


def check_data(study: Study, config: Config, decode: bool = False) -> list[str]:
    """Counts the images and classes of every data set of a study.

    Args:
        study: which data.
        config: says where they are, as far as the study does not.
        decode: also decode every image.

    Returns:
        One line per data set.

    Raises:
        DataError: names every data set that is not what it should be.
    """
    if not isinstance(study.data, CountedData):
        raise DataError(f"study {study.name} has no images on disk: nothing to check")
    lines, problems = [], []
    for name, images in study.data.every.items():
        folder = config.folder(images)
        try:
            found = find(study, name, folder)
            found.save(study.dataset_path(name))
        except (DataError, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        counts = f"{len(found.train):,} training, {len(found.validation):,} validation"
        parts = (found.train, found.validation, found.test)
        files = [part for part in parts if isinstance(part, ImageFiles)]
        # what is held out comes from the same folder as the training images
        left_out = dict.fromkeys(part.left_out for part in files if part.left_out)
        where = f"in {'; '.join((str(folder), *left_out))}" if files else "in memory"
        lines.append(
            f"{name}: {len(found.train.classes):,} classes, {counts} and {len(found.test):,} test "
            f"images {where}"
        )
        if decode:
            broken = [problem for part in files for problem in part.broken()]
            problems += [f"{name}: {len(broken):,} broken images: {broken[0]}"] if broken else []
    if problems:
        raise DataError("; ".join(problems))
    return lines
