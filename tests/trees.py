"""Generated folders of real JPEGs in the formats of ImageNet, iNaturalist 2018 and VOC2007."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

VOC_CLASSES = ("aeroplane", "bicycle", "bird")


def write_jpeg(path: Path, seed: int, shade: int = 128, size=(50, 40), mode: str = "RGB") -> None:
    """A noisy picture of one shade, so that classes can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-40, 41, (size[1], size[0], 3))
    pixels = np.clip(noise + np.array([shade, 255 - shade, 128]), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, "JPEG", quality=90)


def sizes_and_modes(number: int) -> dict:
    """Mixed sizes; now and then a greyscale or a CMYK file, as in ImageNet."""
    sizes = ((50, 40), (40, 60), (33, 33), (90, 41))
    return {"size": sizes[number % 4], "mode": {5: "L", 7: "CMYK"}.get(number % 11, "RGB")}


def shade_of(label: int, classes: int) -> int:
    return 20 + 215 * label // max(classes - 1, 1)


def imagenet(folder: Path, classes: int = 4, train: int = 6, val: int = 3) -> Path:
    """``train`` and ``val`` images of each class, named as ImageNet's are."""
    number = 0
    for label in range(classes):
        wnid = f"n{label:08d}"
        for i in range(train + val):
            part, name = (
                ("train", f"{wnid}_{i}.JPEG") if i < train else ("val", f"val_{label}_{i}.JPEG")
            )
            path = folder / part / wnid / name
            write_jpeg(path, number, shade_of(label, classes), **sizes_and_modes(number))
            number += 1
    return folder


def classes_in_parts(
    folder: Path, parts, classes, count: int, name: str = "{}.jpg", size=(20, 40)
) -> Path:
    """``count`` images of each class in each part, wider from one to the next.

    Part "" is the folder itself.
    """
    number = 0
    for part in parts:
        for label in classes:
            for i in range(count):
                number += 1
                path = folder / part / label / name.format(i)
                write_jpeg(path, number, size=(size[0] + i, size[1]))
    return folder


def label_list(path: Path, classes: int, per_class: int) -> Path:
    """A list like SimCLR's: the first images of every class."""
    names = [f"n{label:08d}_{i}.JPEG" for label in range(classes) for i in range(per_class)]
    path.write_text("\n".join(names) + "\n")
    return path


def inaturalist(folder: Path, classes: int = 5, train: int = 4, val: int = 2) -> Path:
    categories = [
        {"id": label, "name": f"species {label}", "supercategory": "Aves"}
        for label in range(classes)
    ]
    number = 0
    for part, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for i in range(classes * count):
            label = i % classes
            file = f"train_val2018/Aves/{label}/{part}{i}.jpg"
            shade = shade_of(label, classes)
            write_jpeg(folder / file, 1000 + number, shade, **sizes_and_modes(number))
            images.append({"id": number, "file_name": file, "width": 50, "height": 40})
            annotations.append({"id": number, "image_id": number, "category_id": label})
            number += 1
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}2018.json").write_text(json.dumps(content))
    return folder


def voc(folder: Path, trainval: int = 24, test: int = 12) -> Path:
    """Image i shows class i % 3; every seventh also shows the next class, hard to see."""
    root = folder / "VOCdevkit" / "VOC2007"
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    number = 0
    for part, count in (("trainval", trainval), ("test", test)):
        names = [f"{number + i:06d}" for i in range(count)]
        for i, name in enumerate(names):
            path = root / "JPEGImages" / f"{name}.jpg"
            write_jpeg(path, 2000 + number + i, shade_of(i % 3, 3), **sizes_and_modes(i))
        for label, wanted in enumerate(VOC_CLASSES):
            values = [
                1 if i % 3 == label else 0 if i % 7 == 0 and (i + 1) % 3 == label else -1
                for i in range(count)
            ]
            lines = [f"{name} {value:2d}" for name, value in zip(names, values)]
            (lists / f"{wanted}_{part}.txt").write_text("\n".join(lines) + "\n")
        (lists / f"{part}.txt").write_text("\n".join(names) + "\n")
        number += count
    return folder


def study_on_disk(folder: Path) -> None:
    """The study of tests/workflow/on_disk.yaml in a checkout, with its images and label lists."""
    study = Path(__file__).parent / "workflow/on_disk.yaml"
    (folder / "studies/on-disk.yaml").write_bytes(study.read_bytes())
    imagenet(folder / "images/imagenet", train=12)
    inaturalist(folder / "images/inat")
    voc(folder / "images/voc")
    (folder / "lists").mkdir()
    label_list(folder / "lists/1percent.txt", 4, 2)
    label_list(folder / "lists/10percent.txt", 4, 4)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data_folders"] = {
        "imagenet": "images/imagenet",
        "inaturalist-2018": "images/inat",
        "voc2007": "images/voc",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
