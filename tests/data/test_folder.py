"""Folders of images of any names, from generated trees of real JPEGs."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
import trees

from e2mc.data.errors import DataError
from e2mc.data.files import decode
from e2mc.data.folder import read_folder
from e2mc.data.on_disk import find_images

CLASSES = ("maple leaf", "Eiche", "été")


def tree(folder, parts, classes=CLASSES, count=4):
    return trees.classes_in_parts(folder, parts, classes, count, "photo {}.jpg", size=(6, 5))


@pytest.mark.parametrize(
    ("parts", "own"),
    [
        (("train", "val"), False),
        (("train", "valid"), False),
        (("training", "test"), False),
        (("train", "val", "test"), True),
        (("train", "validation", "testing"), True),
    ],
)
def test_parts_by_their_usual_names(parts, own, tmp_path):
    found = read_folder(tree(tmp_path, parts))
    assert found.train.classes == tuple(sorted(CLASSES)) == found.test.classes
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.train.name(0) == f"{parts[0]}/Eiche/photo 0.jpg"
    assert found.test.name(0).startswith(f"{parts[-1]}/")
    assert (found.validation is not None) == own
    if own:
        assert found.validation.name(0).startswith(f"{parts[1]}/")


def test_a_validation_folder_of_its_own_is_taken_as_it_is(tmp_path):
    tree(tmp_path, ("train", "val", "test"))
    splits = find_images("folder", tmp_path, classes=3, train=24, test=12, validation=12)
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [12, 12, 12]
    assert all(splits.validation.name(i).startswith("val/") for i in range(12))
    with pytest.raises(
        DataError,
        match=r"has 24 training images, 12 of them for validation, expected 12 \(folder\)",
    ):
        find_images("folder", tmp_path, classes=3, train=12, test=12, validation=12)
    with pytest.raises(DataError, match="has 12 images for validation, expected 0"):
        find_images("folder", tmp_path, classes=3, train=24, test=12)


def test_one_folder_of_classes_is_divided_by_seed(tmp_path):
    tree(tmp_path, ("",))
    made = [
        find_images("folder", tmp_path, classes=3, train=9, test=3, validation=3, seed=seed)
        for seed in (0, 0, 1)
    ]
    for splits in made:
        parts = (splits.train, splits.validation, splits.test)
        assert [torch.bincount(p.labels).tolist() for p in parts] == [[2] * 3, [1] * 3, [1] * 3]
        names = [name for part in parts for name in part.encoded_names()]
        assert len(set(names)) == 12  # every image once
    first, again, other = (splits.test.encoded_names() for splits in made)
    assert first == again != other


def test_a_training_folder_alone_is_divided_by_seed(tmp_path):
    tree(tmp_path, ("train",))
    splits = find_images("folder", tmp_path, classes=3, train=9, test=3)
    assert (len(splits.train), len(splits.test)) == (9, 3)


def test_a_class_may_be_called_train(tmp_path):
    found = read_folder(tree(tmp_path, ("",), ("train", "test", "plane")))
    assert found.train.classes == ("plane", "test", "train") and found.test is None


def test_images_deeper_in_a_class_are_of_it(tmp_path):
    tree(tmp_path, ("train", "val"))
    (tmp_path / "train/Eiche/2024/june").mkdir(parents=True)
    (tmp_path / "train/Eiche/.cache").mkdir()
    shutil.copy(tmp_path / "train/Eiche/photo 0.jpg", tmp_path / "train/Eiche/.cache/x.jpg")
    os.rename(tmp_path / "train/Eiche/photo 3.jpg", tmp_path / "train/Eiche/2024/june/a.jpg")
    found = read_folder(tmp_path)
    assert torch.bincount(found.train.labels).tolist() == [4, 4, 4]
    assert found.train.name(0) == "train/Eiche/2024/june/a.jpg"


@pytest.mark.parametrize("part", ["", "train", "val"])
def test_one_class(part, tmp_path):
    tree(tmp_path, ("train", "val") if part else ("",), CLASSES[:1])
    with pytest.raises(DataError, match="has one class, maple leaf: nothing can be told apart"):
        read_folder(tmp_path)


def test_class_without_validation_images(tmp_path):
    tree(tmp_path, ("train", "val", "test"))
    for file in (tmp_path / "val/Eiche").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="class Eiche has no images in .*val: expected .jpeg"):
        read_folder(tmp_path)
    (tmp_path / "val/Eiche").rmdir()
    with pytest.raises(
        DataError, match="train has 3 classes and .*/val has 2, and 1 are .* e.g. Eiche: both need"
    ):
        read_folder(tmp_path)


def test_classes_that_differ(tmp_path):
    tree(tmp_path, ("train", "test"))
    (tmp_path / "test/Eiche").rename(tmp_path / "test/eiche")
    with pytest.raises(DataError, match="and 2 are in only one of them, e.g. Eiche"):
        read_folder(tmp_path)


def test_class_with_too_few_images_to_divide(tmp_path):
    tree(tmp_path, ("",))
    for i in range(1, 4):
        (tmp_path / f"Eiche/photo {i}.jpg").unlink()
    with pytest.raises(DataError, match="one folder of classes, and of Eiche no image would be"):
        find_images("folder", tmp_path, classes=3, train=6, test=3)
    with pytest.raises(DataError, match=r"has 9 images, expected 12 \(folder\)"):
        find_images("folder", tmp_path, classes=3, train=9, test=3)


def test_folders_that_mean_the_same(tmp_path):
    tree(tmp_path, ("train", "val", "valid"))
    with pytest.raises(DataError, match="has val/ and valid/, which mean the same: remove or"):
        read_folder(tmp_path)


def test_no_training_folder(tmp_path):
    tree(tmp_path, ("val", "test"))
    with pytest.raises(DataError, match="has val/ and test/ and no train/: call the folder"):
        read_folder(tmp_path)


def test_part_without_classes(tmp_path):
    tree(tmp_path, ("train",))
    trees.write_jpeg(tmp_path / "test/1.jpg", 0)
    with pytest.raises(DataError, match=r"test has no class folders \(1 images lie in it"):
        read_folder(tmp_path)


@pytest.mark.parametrize("parts", [("train", "val"), ("test",)])
def test_parts_are_no_classes(parts, tmp_path):
    tree(tmp_path, ("",), parts)
    with pytest.raises(DataError, match=f"has {'/ and '.join(parts)}/ without folders of classes"):
        read_folder(tmp_path)


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a folder: name the one that holds"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no class folders \(0 images"):
        read_folder(tmp_path)


@pytest.mark.parametrize("join", [os.link, shutil.copy])
def test_images_of_two_parts_are_refused(join, tmp_path):
    tree(tmp_path, ("train", "val", "test"))
    (tmp_path / "test/Eiche/photo 0.jpg").unlink()
    join(tmp_path / "val/Eiche/photo 0.jpg", tmp_path / "test/Eiche/photo 0.jpg")
    with pytest.raises(DataError, match="test/Eiche/photo 0.jpg is the same image as .*val/"):
        read_folder(tmp_path)


@pytest.mark.parametrize("join", [os.link, lambda one, other: other.symlink_to(one)])
def test_one_file_under_two_names_is_not_divided(join, tmp_path):
    tree(tmp_path, ("",))
    join(tmp_path / "Eiche/photo 0.jpg", tmp_path / "Eiche/again.jpg")
    with pytest.raises(DataError, match="are one file: one of them might be trained on and the"):
        read_folder(tmp_path)


def test_label_lists_need_a_part_to_train_on(tmp_path):
    tree(tmp_path, ("",))
    lists = {"few": (tmp_path / "list.txt", 1)}
    with pytest.raises(DataError, match="has no parts train and test alone .*: leave lists out"):
        find_images("folder", tmp_path, classes=3, train=9, test=3, lists=lists)


def test_broken_images_are_named(tmp_path):
    tree(tmp_path, ("train", "val"))
    damaged, tiny = tmp_path / "train/Eiche/photo 1.jpg", tmp_path / "train/Eiche/photo 2.jpg"
    damaged.write_bytes(damaged.read_bytes()[:100])
    trees.write_jpeg(tiny, 0, size=(1, 1))
    said = list(read_folder(tmp_path).train.broken())
    assert len(said) == 2
    assert f"{damaged} cannot be decoded" in said[0] and f"{tiny} is a single pixel" in said[1]
    trees.write_jpeg(tiny, 0, size=(1, 9))
    assert decode(tiny).shape == (3, 9, 1)
