"""Data sets in folders, from generated trees of real JPEGs."""

from __future__ import annotations

import json

import pytest
import torch
import trees

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.imagenet import read_imagenet
from e2mc.data.inaturalist import read_inaturalist_2018
from e2mc.data.label_lists import read_label_list
from e2mc.data.on_disk import find_images
from e2mc.data.voc2007 import read_voc2007


@pytest.fixture
def imagenet(tmp_path):
    return trees.imagenet(tmp_path / "imagenet")


@pytest.fixture
def inat(tmp_path):
    return trees.inaturalist(tmp_path / "inat")


@pytest.fixture
def voc(tmp_path):
    return trees.voc(tmp_path / "voc")


def test_imagenet(imagenet):
    (imagenet / "train/n00000001/notes.txt").write_text("no image")
    (imagenet / "train/n00000001/._n00000001_1.JPEG").write_text("of macOS")
    (imagenet / "train/.cache").mkdir()
    train, val = read_imagenet(imagenet)
    assert (len(train), len(val)) == (24, 12)
    assert train.classes == val.classes == tuple(f"n{i:08d}" for i in range(4))
    assert torch.bincount(train.labels).tolist() == [6, 6, 6, 6]
    assert train.name(7) == "train/n00000001/n00000001_1.JPEG" and train.labels[7] == 1
    assert val.path(0).is_file()


def test_imagenet_faults(imagenet):
    for file in (imagenet / "train/n00000002").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="class n00000002 has no images in .*/train"):
        read_imagenet(imagenet)
    (imagenet / "train/n00000002").rmdir()
    with pytest.raises(DataError, match="3 classes and .*/val has 4, and 1 .* e.g. n00000002"):
        read_imagenet(imagenet)
    with pytest.raises(DataError, match="set data_folders.imagenet in config.yaml"):
        read_imagenet(imagenet / "train")
    flat = imagenet.parent / "flat"
    trees.imagenet(flat)
    for file in (flat / "val").rglob("*.JPEG"):
        file.rename(flat / "val" / file.name)
    for folder in (flat / "val").iterdir():
        folder.is_dir() and folder.rmdir()
    with pytest.raises(DataError, match=r"no class folders \(12 images lie in it directly\)"):
        read_imagenet(flat)


def test_label_list(imagenet, tmp_path):
    train, _ = read_imagenet(imagenet)
    path = trees.label_list(tmp_path / "list.txt", 4, 2)
    assert read_label_list(path, train, 8).tolist() == [0, 1, 6, 7, 12, 13, 18, 19]
    with pytest.raises(DataError, match="lists 8 images, expected 9"):
        read_label_list(path, train, 9)
    with pytest.raises(DataError, match="cannot read the list .*nowhere"):
        read_label_list(tmp_path / "nowhere.txt", train, 9)
    path.write_text(path.read_text() + "n00000001_77.JPEG\nn00000009_1.JPEG\n")
    with pytest.raises(DataError, match="2 of the 10 images .* not among the 24 .*n00000001_77"):
        read_label_list(path, train)
    path.write_text("n00000001_1.JPEG\nn00000001_1.JPEG\n")
    with pytest.raises(DataError, match="lists 1 images twice"):
        read_label_list(path, train)
    path.write_text("n00000001_1.JPEG\nn00000002_1.JPEG\n")
    with pytest.raises(DataError, match="no image of 2 of the 4 classes, e.g. n00000000"):
        read_label_list(path, train)


def test_a_listed_name_that_two_images_have_is_refused(tmp_path):
    files = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/3.jpg"]
    images = ImageFiles.of(tmp_path, files, torch.tensor([0, 0, 1, 1]), ["cat", "dog"])
    path = tmp_path / "list.txt"
    path.write_text("2.jpg\n3.jpg\n")
    assert read_label_list(path, images).tolist() == [1, 3]
    path.write_text("2.jpg\n1.jpg\n")
    with pytest.raises(DataError, match=r"lists 1\.jpg, which may be cat/1\.jpg or dog/1\.jpg"):
        read_label_list(path, images)


def test_listed_names_may_have_spaces(tmp_path):
    files = ["cat/a cat.jpg", "dog/a dog.jpg"]
    images = ImageFiles.of(tmp_path, files, torch.tensor([0, 1]), ["cat", "dog"])
    path = tmp_path / "list.txt"
    path.write_text("a cat.jpg\r\n\na dog.jpg\n")
    assert read_label_list(path, images, 2).tolist() == [0, 1]


def test_held_out_images_are_stratified_and_in_no_list(imagenet, tmp_path):
    path = trees.label_list(tmp_path / "list.txt", 4, 2)
    found = find_images(
        "imagenet",
        imagenet,
        classes=4,
        train=24,
        test=12,
        validation=8,
        lists={"few": (path, 8)},
    )
    assert (len(found.train), len(found.validation), len(found.test)) == (16, 8, 12)
    assert torch.bincount(found.validation.labels).tolist() == [2, 2, 2, 2]
    held_out = {found.validation.name(i) for i in range(8)}
    training = {found.train.name(i) for i in range(16)}
    assert not held_out & training
    listed = {found.train.name(i).rsplit("/")[-1] for i in found.lists["few"].tolist()}
    assert listed == set(path.read_text().split())
    whole = find_images("imagenet", imagenet, classes=4, train=24, test=12)
    assert (len(whole.train), len(whole.validation)) == (24, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 5}, "has 4 classes, expected 5"),
        ({"train": 1_281_167}, "has 24 training images, expected 1,281,167"),
        ({"test": 11}, "has 12 test images, expected 11"),
        ({"validation": 25}, "cannot hold 25 images out: only 24"),
    ],
)
def test_wrong_counts(imagenet, wrong, message):
    with pytest.raises(DataError, match=message):
        find_images("imagenet", imagenet, **({"classes": 4, "train": 24, "test": 12} | wrong))


def test_inaturalist(inat):
    train, val = read_inaturalist_2018(inat)
    assert (len(train), len(val)) == (20, 10)
    assert train.classes == tuple(f"species {i}" for i in range(5))
    assert train.labels[:6].tolist() == [0, 1, 2, 3, 4, 0]
    assert train.name(1) == "train_val2018/Aves/1/train1.jpg" and val.path(0).is_file()


def test_inaturalist_faults(inat):
    path = inat / "train2018.json"
    published = json.loads(path.read_text())

    def changed(**parts):
        path.write_text(json.dumps(published | parts))

    next((inat / "train_val2018/Aves/3").glob("train*")).unlink()
    with pytest.raises(DataError, match="1 of the 20 images of .* are not in"):
        read_inaturalist_2018(inat)
    changed(annotations=published["annotations"][:-2])
    with pytest.raises(DataError, match="2 of 20 images have no known category"):
        read_inaturalist_2018(inat)
    extra = [*published["categories"], {"id": 9, "name": "dodo"}]
    changed(categories=extra, images=published["images"][:3])
    with pytest.raises(DataError, match="3 of the 6 categories .* e.g. species 3"):
        read_inaturalist_2018(inat)
    changed(images=[{"id": 1}])
    with pytest.raises(DataError, match="an entry lacks 'file_name'"):
        read_inaturalist_2018(inat)
    path.write_text("[]")
    with pytest.raises(DataError, match="has no images, annotations, categories"):
        read_inaturalist_2018(inat)
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_inaturalist_2018(inat)
    path.unlink()
    with pytest.raises(DataError, match=r"set data_folders\.inaturalist-2018"):
        read_inaturalist_2018(inat)


def test_voc(voc):
    train, test = read_voc2007(voc)
    assert read_voc2007(voc / "VOCdevkit/VOC2007")[0].name(0) == train.name(0)
    assert (len(train), len(test)) == (24, 12)
    assert train.classes == trees.VOC_CLASSES
    # image 0 shows class 0, and class 1 is hard to see; image 1 shows class 1 alone
    assert train.labels[:2].tolist() == [[1, -1, 0], [0, 1, 0]]
    assert train.labels.dtype == torch.int8
    assert test.path(0).name == "000024.jpg" and test.path(0).is_file()


def test_voc_faults(voc):
    root = voc / "VOCdevkit/VOC2007"
    with pytest.raises(DataError, match="has no ImageSets/Main"):
        read_voc2007(root / "JPEGImages")
    (root / "JPEGImages/000030.jpg").unlink()
    with pytest.raises(DataError, match="1 of the 12 images of test .* e.g. 000030.jpg"):
        read_voc2007(voc)
    path = root / "ImageSets/Main/bird_test.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match="bird_test.txt names 11 images, and .*aeroplane.* 12"):
        read_voc2007(voc)
    path.write_text("\n".join([lines[0].split()[0] + " 7", *lines[1:]]))
    with pytest.raises(DataError, match="expected lines of an image and 1, -1 or 0"):
        read_voc2007(voc)
    path.unlink()
    with pytest.raises(DataError, match="cannot read .*bird_test.txt"):
        read_voc2007(voc)


def test_images_of_several_classes_are_not_held_out(voc):
    with pytest.raises(DataError, match="set validation to 0"):
        find_images("voc2007", voc, classes=3, train=24, test=12, validation=4)
