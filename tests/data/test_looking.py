"""What is said of somebody's images, and what is refused, in every form that they may have."""

from __future__ import annotations

import io
import json
import shutil
import sys
import urllib.error

import numpy as np
import published
import pytest
import torch
import trees
from PIL import Image

from e2mc.data.errors import DataError
from e2mc.data.looking import Counted, channels_of, known_images, look_at_images
from e2mc.data.on_disk import find_images
from e2mc.data.torchvision_sets import Selection

CLASSES = ("ash", "beech", "oak")


def look(images, root=None):
    return look_at_images(images, root, images / "work")


def tree(folder, parts, classes=CLASSES, count=10):
    return trees.classes_in_parts(folder, parts, classes, count)


def flat(folder, count):
    for number in range(count):
        trees.write_jpeg(folder / f"{number}.jpg", number)
    return folder


def drop(folder, kept=0):
    """All images of a class but some."""
    for file in sorted(folder.iterdir())[kept:]:
        file.unlink()


@pytest.mark.parametrize(
    ("parts", "format", "train", "test", "apart"),
    [
        (("train", "val"), "imagenet", 30, 30, 0),
        (("train", "valid"), "folder", 30, 30, 0),
        (("training", "test"), "folder", 30, 30, 0),
        (("train", "val", "test"), "folder", 60, 30, 30),
        (("train", "dev", "testing"), "folder", 60, 30, 30),
        (("train",), "folder", 24, 6, 0),
        (("",), "folder", 24, 6, 0),
    ],
)
def test_folders_of_classes(parts, format, train, test, apart, tmp_path):
    looked = look(tree(tmp_path, parts))
    images = looked.counted
    assert images.named == {"format": format, "folder": tmp_path.resolve()}
    assert (images.classes, images.train, images.test, images.apart) == (3, train, test, apart)
    assert images.validation == (apart or 3) and images.labelled and images.files
    assert images.divided == (len(parts) == 1)
    assert looked.side == 24
    # a study of these numbers reads the same images
    splits = find_images(
        format, tmp_path, classes=3, train=train, test=test, validation=images.validation
    )
    assert looked.training(0).encoded_names() == splits.train.encoded_names()
    assert torch.bincount(splits.test.labels, minlength=3).min() > 0


def test_what_was_found_is_said(tmp_path):
    said = look(tree(tmp_path / "a", ("train", "val", "test"), (*CLASSES, "yew"))).in_words()
    assert said == (
        "4 classes (ash, beech, oak, …), 80 training (40 of them for validation) and 40 test "
        "images, their shorter side 24 pixels (median)"
    )
    said = look(tree(tmp_path / "b", ("",))).in_words()
    assert said.startswith("3 classes (ash, beech, oak), 24 training and 6 held-out images")
    assert (
        look(flat(tmp_path / "c", 50)).in_words().startswith("no labels, 40 training and 10 held")
    )


@pytest.mark.parametrize("counts", [(3, 3, 3), (3, 4, 50), (4, 7, 9), (5, 100, 6), (3, 3, 300)])
def test_every_class_of_divided_images_is_tested_on(counts, tmp_path):
    for name, count in zip(CLASSES, counts):
        tree(tmp_path, ("",), (name,), count)
    looked = look(tmp_path)
    images = looked.counted
    splits = find_images(
        "folder", tmp_path, classes=3, train=images.train, test=images.test,
        validation=images.validation,
    )  # fmt: skip
    for part in (splits.train, splits.test):
        assert torch.bincount(part.labels, minlength=3).min() > 0
    assert looked.training(0).encoded_names() == splits.train.encoded_names()


def test_images_without_labels(tmp_path):
    images = look(flat(tmp_path, 60)).counted
    assert images.named["format"] == "unlabelled" and images.divided
    assert (images.classes, images.train, images.test, images.validation) == (1, 48, 12, 0)
    # what lies beside them is passed over
    tree(tmp_path, ("",), CLASSES[:1])
    assert look(tmp_path).counted == images


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda f: f.mkdir(), r"neither folders of classes nor 20 images .*\(found 0\): sort them"),
        (lambda f: flat(f, 3), r"nor 20 images that lie in it directly \(found 3\)"),
        (lambda f: f.touch(), r"images is not a folder: name a folder with train/<class>/ and"),
        (lambda f: tree(f, ("val", "test")), r"has val/ and test/ and no train/: call the folder"),
        (lambda f: tree(f, ("train", "training")), r"train/ and training/, which mean the same"),
        (lambda f: tree(f, ("",), ("oak",)), r"has one class, oak: nothing can be told apart"),
        (lambda f: tree(f, ("images",)), r"one class, images: .* or name the folder that holds th"),
        (lambda f: tree(f, ("train", "val"), ("oak",)), r"images has one class, oak"),
        (lambda f: tree(f, ("train", "test"), ("oak",)), r"train has one class, oak"),
        (
            lambda f: unsorted(f),
            r"has test/ and train/ without folders of classes: sort the images",
        ),
        (lambda f: strangers(f), r"class labels has no images in .*images: expected .jpeg"),
        (
            lambda f: lacking(f, "val", 1, ("train",)),
            r"has 1 training image of class oak, expected a",
        ),
        (
            lambda f: lacking(f, "test", 1, ("train",)),
            r"at least 2, of which one is trained on, one",
        ),
        (
            lambda f: lacking(f, "test", 0, ("test",)),
            r"class oak has no images in .*/test: expected",
        ),
        (lambda f: lacking(f, "val", 0, ("val",)), r"class oak has no images in .*/val: expected"),
        (
            lambda f: lacking(f, "", 2, ("",)),
            r"has 2 images of class oak, expected .* one tested on",
        ),
        (lambda f: other_class(f), r"are in only one of them, e\.g\. elm"),
        (
            lambda f: tiny(f),
            r"have 1 pixels on their shorter side \(median\), expected at least 16",
        ),
        (lambda f: broken(f), r"ash/0\.jpg cannot be read as an image: "),
        (lambda f: shared(f), r"is the same image as .*: images that are trained on"),
    ],
)
def test_folders_that_are_refused(made, message, tmp_path):
    folder = tmp_path / "images"
    made(folder)
    with pytest.raises(DataError, match=message) as found:
        look(folder)
    assert "\n" not in str(found.value)


def unsorted(folder):
    flat(folder / "train", 30)
    flat(folder / "test", 30)


def strangers(folder):
    """A folder for another task: images and what is to be seen in them."""
    flat(folder / "images", 30)
    (folder / "labels").mkdir()
    (folder / "labels/0.txt").write_text("0 0.5 0.5 1 1")


def lacking(folder, part, kept, parts):
    """A tree whose class oak has ``kept`` images in some parts."""
    tree(folder, ("train", part) if part else ("",))
    for name in parts:
        drop(folder / name / "oak", kept)


def other_class(folder):
    tree(folder, ("train", "test"))
    (folder / "test/oak").rename(folder / "test/elm")


def tiny(folder):
    tree(folder, ("",))
    for number, file in enumerate(folder.rglob("*.jpg")):
        Image.new("RGB", (1, 1), (number, 0, 0)).save(file)


def broken(folder):
    tree(folder, ("",))
    (folder / "ash/0.jpg").write_bytes(b"no image")


def shared(folder):
    tree(folder, ("train", "test"))
    shutil.copy(folder / "train/oak/0.jpg", folder / "test/oak/0.jpg")


def test_one_image_is_enough_beside_a_part_for_validation(tmp_path):
    tree(tmp_path, ("train", "val", "test"))
    drop(tmp_path / "train/oak", 1)
    assert look(tmp_path).counted.validation == 30


# --- Parquet ---


def shard(path, labels, names=CLASSES, side=20):
    """A real file of random images."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    rows = []
    for number, _ in enumerate(labels):
        noise = np.random.default_rng((len(path.name), number))
        content = io.BytesIO()
        Image.fromarray(noise.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)).save(
            content, "PNG"
        )
        rows.append({"bytes": content.getvalue(), "path": None})
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    said = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"image": rows, "label": list(labels)})
    write_table(table.replace_schema_metadata(said), path)


LABELS = [0, 1, 2] * 10


@pytest.mark.parametrize(
    ("parts", "train", "test", "apart"),
    [
        (("train",), 24, 6, 0),
        (("train", "test"), 30, 30, 0),
        (("train", "validation"), 30, 30, 0),
        (("train", "validation", "test"), 60, 30, 30),
    ],
)
@pytest.mark.parametrize("inner", ["", "data"])
def test_parquet(inner, parts, train, test, apart, tmp_path):
    for part in parts:
        shard(tmp_path / inner / f"{part}-00000-of-00001.parquet", LABELS)
    (tmp_path / "README.md").touch()
    looked = look(tmp_path)
    images = looked.counted
    assert images.named == {"format": "parquet", "folder": tmp_path.resolve()}
    assert (images.classes, images.train, images.test, images.apart) == (3, train, test, apart)
    assert looked.side == 20 and looked.found.train.classes == CLASSES
    # where the workflow unpacks them to
    assert looked.training(0).path(0).is_relative_to(tmp_path / "work/images/train")


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        (LABELS, {"names": CLASSES[:2]}, r"labels run from 0 to 2, but there are 2 classes"),
        (LABELS, {"side": 4}, r"have 4 pixels on their shorter side"),
        ([0] * 9, {"names": CLASSES[:1]}, r"has one class, ash: nothing can be told apart"),
        ([0, 0, 0, 1, 1, 2], {}, r"has 1 image of class oak, expected at least 3"),
        ([0, 0, 0, 1, 1, 1], {}, r"train shards have no image of 1 of the 3 classes, e\.g\. oak"),
        ([0, 1, -1], {}, r"row 2: label is -1, expected the number of a class"),
        (["ash", "oak"], {}, r"found a row of dict and str"),
    ],
)
def test_parquet_that_is_refused(labels, changes, message, tmp_path):
    shard(tmp_path / "train-00000-of-00001.parquet", labels, **changes)
    with pytest.raises(DataError, match=message):
        look(tmp_path)


def test_parquet_whose_parts_differ(tmp_path):
    shard(tmp_path / "train-00000-of-00001.parquet", LABELS)
    shard(tmp_path / "test-00000-of-00001.parquet", [0, 1, 0])
    with pytest.raises(DataError, match="the test shards have no image of 1 of the 3 classes"):
        look(tmp_path)
    shard(tmp_path / "test-00000-of-00001.parquet", LABELS, CLASSES[::-1])
    with pytest.raises(DataError, match="names other classes than the shards before it"):
        look(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="has no train-00000-of-….parquet"):
        look(tmp_path)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "train-00000-of-00001.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow, which is not installed: `pip install"):
        look(tmp_path)


# --- torchvision ---


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("cifar10", Selection("CIFAR10")),
        ("CIFAR-100", Selection("CIFAR100")),
        ("stl10", Selection("STL10")),
        ("fashion-mnist", Selection("FashionMNIST")),
        ("flowers102", Selection("Flowers102")),
        ("emnist_letters", Selection("EMNIST", "letters")),
    ],
)
def test_names_of_data_sets(said, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert known_images(said) == meant
    assert channels_of(meant) == (1 if "MNIST" in meant.name else 3)
    (tmp_path / said).mkdir()  # what is there comes first
    assert known_images(said).samefile(tmp_path / said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "cifar",
            r"cifar is neither a folder .* \(did you mean CIFAR10 or CIFAR100\?\): name a fol",
        ),
        ("birds", r"nor a data set of torchvision: name a folder with .*, or one of CIFAR10, CIF"),
        ("./cifar10", r"\./cifar10 is neither a folder that is there"),
        ("emnist", r"did you mean MNIST"),
        ("ImageNet", r"name a folder with train/<class>/ and val/<class>/"),
    ],
)
def test_names_of_nothing(said, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        known_images(said)


def test_a_data_set_in_memory(tmp_path, monkeypatch):
    published.cifar10(tmp_path, monkeypatch, train=60, test=20)
    looked = look_at_images(Selection("CIFAR10"), tmp_path, tmp_path / "work")
    assert looked.counted == Counted(
        "CIFAR10", "torchvision", {"name": "CIFAR10"}, 10, 60, 20, files=False
    )
    assert looked.counted.validation == 10 and looked.side == 32
    assert len(looked.training(0)) == 50


def test_a_data_set_of_files(tmp_path, monkeypatch):
    published.dtd(tmp_path)
    looked = look_at_images(Selection("DTD"), tmp_path, tmp_path / "work")
    images = looked.counted
    assert (images.train, images.test, images.validation, images.files) == (4, 2, 2, True)
    assert looked.side == 40


def test_a_part_of_emnist(tmp_path, monkeypatch):
    published.emnist(tmp_path, monkeypatch)
    looked = look_at_images(Selection("EMNIST", "letters"), tmp_path, tmp_path / "work")
    assert looked.counted.named == {"name": "EMNIST", "split": "letters"}
    assert looked.counted.classes == 26 and looked.found.train.channels == 1


def test_a_data_set_that_cannot_be_had(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(
        DataError, match=r"CIFAR10 is in no folder of this machine and could not be"
    ):
        look_at_images(Selection("CIFAR10"), None, tmp_path / "work")
    with pytest.raises(DataError, match=r"nowhere is not a folder: set data_folders\.torchvision"):
        look_at_images(Selection("CIFAR10"), tmp_path / "nowhere", tmp_path / "work")
