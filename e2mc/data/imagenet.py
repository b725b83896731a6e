"""ImageNet as a folder of images: ``train/<class>/<file>`` and ``val/<class>/<file>``.

Source: Russakovsky et al. 2015, arXiv 1409.0575; any data set in such folders will do.
"""

from __future__ import annotations

from pathlib import Path

from e2mc.data.class_folders import ClassFolders, refuse_mixed
from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles


def read_imagenet(folder: Path) -> tuple[ImageFiles, ImageFiles]:
    """The images of ``train`` and of ``val``, ordered by class and name; classes are the folders.

    Images are files that are named like images and are not empty, through links or not.

    Raises:
        DataError: when a folder is missing, a class has no images, the two parts have not the
            same classes, or an image is in both parts or in two classes.
    """
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise DataError(
                f"{folder / part} is not a folder: set data_folders.imagenet in config.yaml to the "
                "folder that holds train/<class>/*.JPEG and val/<class>/*.JPEG"
            )
    parts = {part: ClassFolders.read(folder, part) for part in ("train", "val")}
    refuse_mixed(folder, parts)
    return parts["train"].images(folder), parts["val"].images(folder)
