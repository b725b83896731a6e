"""The images of a study: published files into splits, or folders of images into lists."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.images import Splits
from e2mc.data.subsets import stratified_split
from e2mc.state import sha256
from e2mc.study import OnDisk, Study


def prepare_data(
    study: Study, folder: Path | None, downloads: Path, outputs: Mapping[str, Path]
) -> None:
    """Fetches, checks and splits Fashion-MNIST, and makes the data sets to transfer to.

    Args:
        study: which data.
        folder: where the published files are; None to have them fetched into ``downloads``.
        outputs: files to write for "images", "digits" and "outfits".

    Raises:
        DataError: when the files are not the published ones, or the study has other data.
    """
    from e2mc.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
    from e2mc.data.transfer import compose_outfits, load_digits

    data = study.data
    if isinstance(data, OnDisk):
        raise DataError(
            f"the images of study {study.name} are files of yours, which are listed and not "
            f"prepared: use `e2mc check-data --study {study.name}`"
        )
    whole, test = load_fashion_mnist(fetch_fashion_mnist(folder, downloads))
    rest, held_out = stratified_split(whole.labels, data.validation, data.split_seed)
    if data.train is not None:
        rest = rest[stratified_split(whole.labels[rest], data.train, data.split_seed)[1]]
    images = Splits(whole.subset(rest), whole.subset(held_out), test)
    images.save(outputs["images"])
    load_digits(data.image_size, data.split_seed).save(outputs["digits"])
    compose_outfits(images, data.outfits, data.split_seed).save(outputs["outfits"])


def index_data(
    study: Study, name: str, folder: Path | None, downloads: Path, output: Path
) -> Splits:
    """Counts, checks and lists the images of one data set on disk, without reading them.

    Args:
        study: which data.
        name: of the data set in the study.
        folder: where it is, from config.yaml.
        downloads: where label lists go.
        output: file to write.

    Raises:
        DataError: when there is no folder, or a count is not what the study says.
    """
    from e2mc.checkpoints.download import download
    from e2mc.data.on_disk import find_images

    assert isinstance(study.data, OnDisk)
    images = study.data.sets[name]
    if folder is None:
        raise DataError(
            f"study {study.name} needs the images of {images.format}: set "
            f"data_folders.{images.format} in config.yaml to their folder"
        )
    lists = {}
    for list_name, item in images.lists.items():
        path = Path(os.path.expanduser(item.source))
        if item.source.startswith(("http://", "https://")):
            path = downloads / f"{list_name}.txt"
            download(item.source, path, expected_sha256=item.sha256)
        elif item.sha256 is not None and path.is_file() and sha256(path) != item.sha256:
            raise DataError(
                f"{path} has SHA-256 {sha256(path)}, the study names {item.sha256}: fetch it again"
            )
        lists[list_name] = path, item.count
    found = find_images(
        images.format,
        Path(os.path.expanduser(folder)),
        classes=images.classes,
        train=images.train,
        test=images.test,
        validation=images.validation,
        lists=lists,
        seed=study.data.split_seed,
    )
    found.save(output)
    return found


def check_data(study: Study, folders: Mapping[str, Path | None], decode: bool = False) -> list[str]:
    """Counts the images and classes of every data set of a study on disk.

    Args:
        study: which data.
        folders: format -> where it is, from config.yaml.
        decode: also decode every image.

    Returns:
        One line per data set.

    Raises:
        DataError: names every data set that is not what it should be.
    """
    if not isinstance(study.data, OnDisk):
        raise DataError(f"study {study.name} has no images on disk: nothing to check")
    lines, problems = [], []
    for name, images in study.data.sets.items():
        output = study.dataset_path(name)
        downloads = study.root / "data" / "downloads"
        try:
            found = index_data(study, name, folders.get(images.format), downloads, output)
        except (DataError, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        counts = f"{len(found.train):,} training, {len(found.validation):,} validation"
        parts = (found.train, found.validation, found.test)
        files = [part for part in parts if isinstance(part, ImageFiles)]
        # what is held out comes from the same folder as the training images
        left_out = dict.fromkeys(part.left_out for part in files if part.left_out)
        lines.append(
            f"{name}: {len(found.train.classes):,} classes, {counts} and {len(found.test):,} test "
            f"images in {'; '.join((str(folders.get(images.format)), *left_out))}"
        )
        if decode:
            broken = [problem for part in files for problem in part.broken()]
            problems += [f"{name}: {len(broken):,} broken images: {broken[0]}"] if broken else []
    if problems:
        raise DataError("; ".join(problems))
    return lines
