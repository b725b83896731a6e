"""Data sets in folders, from generated trees of real JPEGs."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
import trees
from PIL import Image

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


def test_only_files_that_can_be_images_are_counted(imagenet):
    folder = imagenet / "train/n00000001"
    (folder / "empty.JPEG").touch()
    (folder / "folder.jpg").mkdir()
    (folder / "link.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    train, val = read_imagenet(imagenet)
    assert (len(train), len(val)) == (24, 12) and not val.left_out
    assert train.left_out == (
        "4 named like images left out, e.g. train/n00000001/empty.JPEG (empty)"
    )
    with pytest.raises(
        DataError, match=r"\(imagenet; 4 named like images left out, e\.g\. .*empty"
    ):
        find_images("imagenet", imagenet, classes=4, train=25, test=12)
    for file in folder.glob("n*"):
        file.unlink()
    with pytest.raises(DataError, match=r"class n00000001 has no images .*4 named like images"):
        read_imagenet(imagenet)


def test_linked_images_and_classes_are_counted(imagenet):
    (imagenet / "train/n00000001").rename(imagenet / "elsewhere")
    (imagenet / "train/n00000001").symlink_to(imagenet / "elsewhere")
    inside = imagenet / "train/n00000002/n00000002_1.JPEG"
    inside.rename(imagenet / "moved.JPEG")
    inside.symlink_to(imagenet / "moved.JPEG")
    assert len(read_imagenet(imagenet)[0]) == 24
    (imagenet / "elsewhere").rename(imagenet / "gone")
    with pytest.raises(DataError, match="train/n00000001 is a link that points nowhere"):
        read_imagenet(imagenet)


@pytest.mark.parametrize("name", ["lost+found", "@eaDir", "__MACOSX", ".ipynb_checkpoints"])
def test_system_folders_are_no_classes(imagenet, name):
    for part in ("train", "val", "train/n00000001"):
        (imagenet / part / name).mkdir()
        (imagenet / part / name / "x.jpg").mkdir()
        (imagenet / part / "Thumbs.db").write_text("of Windows")
        (imagenet / part / ".DS_Store").write_text("of macOS")
    train, val = read_imagenet(imagenet)
    assert (len(train), len(val), len(train.classes)) == (24, 12, 4)
    (imagenet / "train/new").mkdir()
    with pytest.raises(DataError, match=r"class new has no images .* remove the folder"):
        read_imagenet(imagenet)


def test_images_one_level_deeper_are_found(tmp_path):
    """Tiny-ImageNet: train/<class>/images/<file>, and all of val in one folder."""
    root = trees.imagenet(tmp_path)
    for folder in list((root / "train").iterdir()):
        (folder / "images").mkdir()
        for file in folder.glob("*.JPEG"):
            file.rename(folder / "images" / file.name)
    with pytest.raises(
        DataError, match=r"found 6 images one level deeper, in .*n00000000/images; "
    ):
        read_imagenet(root)
    for folder in list((root / "train").iterdir()):
        for file in folder.glob("images/*.JPEG"):
            file.rename(folder / file.name)
    (root / "val/images").mkdir()
    for folder in list((root / "val").glob("n*")):
        for file in folder.iterdir():
            file.rename(root / "val/images" / file.name)
        folder.rmdir()
    with pytest.raises(DataError, match=r"sort the images of .*val/images into one folder per"):
        read_imagenet(root)


def link(one, other):
    other.symlink_to(one)


@pytest.mark.parametrize("join", [link, os.link, shutil.copy])
def test_images_of_both_parts_are_refused(imagenet, join):
    one = imagenet / "train/n00000001/n00000001_1.JPEG"
    join(one, imagenet / "val/n00000001/n00000001_1.JPEG")
    with pytest.raises(
        DataError, match=r"val/n00000001/n00000001_1\.JPEG is the same image as .*tr"
    ):
        read_imagenet(imagenet)


@pytest.mark.parametrize("join", [link, shutil.copytree])
def test_validation_folder_that_is_the_training_folder(imagenet, join):
    shutil.rmtree(imagenet / "val")
    join(imagenet / "train", imagenet / "val")
    with pytest.raises(DataError, match="are one folder|is the same image as"):
        read_imagenet(imagenet)


def test_images_that_only_look_alike_are_not_refused(tmp_path):
    """Names and sizes that come in both parts say nothing where the pixels differ."""
    for part, shade in (("train", 10), ("val", 200)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            pixels = np.full((8, 8), shade + len(name) + (name == "dog"), np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / name / "1.bmp")
    assert [len(part) for part in read_imagenet(tmp_path)] == [2, 2]


def test_one_file_in_two_classes_is_refused(imagenet):
    one = imagenet / "train/n00000001/n00000001_1.JPEG"
    os.link(one, imagenet / "train/n00000001/twice.JPEG")
    assert len(read_imagenet(imagenet)[0]) == 25
    os.link(one, imagenet / "train/n00000002/twice.JPEG")
    with pytest.raises(DataError, match="are one file with two different labels"):
        read_imagenet(imagenet)


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


def test_folders_decide_between_images_of_one_name(tmp_path):
    files = ["train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", "train/dog/2.jpg"]
    images = ImageFiles.of(tmp_path, files, torch.tensor([0, 0, 1, 1]), ["cat", "dog"])
    path = tmp_path / "list.txt"
    path.write_text("cat/1.jpg\ndog/1.jpg\n/elsewhere/train/cat/2.jpg\n")
    assert read_label_list(path, images, 3).tolist() == [0, 1, 2]
    path.write_text("cat/1.jpg\ndog/1.jpg\ntrain/dog/1.jpg\n")
    with pytest.raises(DataError, match=r"lists 1 images twice, e\.g\. train/dog/1\.jpg"):
        read_label_list(path, images)
    path.write_text("dog/1.jpg\nbird/1.jpg\n")
    with pytest.raises(DataError, match=r"lists bird/1\.jpg, which may be train/cat/1\.jpg or"):
        read_label_list(path, images)


def test_a_listed_folder_of_another_class_is_refused(tmp_path):
    images = ImageFiles.of(tmp_path, ["cat/1.jpg", "dog/2.jpg"], torch.arange(2), ["cat", "dog"])
    path = tmp_path / "list.txt"
    path.write_text("other/1.jpg\n2.jpg\n")
    assert read_label_list(path, images).tolist() == [0, 1]
    path.write_text("dog/1.jpg\n2.jpg\n")
    with pytest.raises(DataError, match=r"lists dog/1\.jpg, .* is cat/1\.jpg, of another class"):
        read_label_list(path, images)


def test_lists_name_no_tested_images(tmp_path):
    classes = ["cat", "dog"]
    train = ImageFiles.of(
        tmp_path, ["train/cat/1.jpg", "train/dog/2.jpg"], torch.arange(2), classes
    )
    val = ImageFiles.of(tmp_path, ["val/cat/1.jpg", "val/dog/3.jpg"], torch.arange(2), classes)
    path = tmp_path / "list.txt"
    path.write_text("cat/1.jpg\n2.jpg\n")
    assert read_label_list(path, train, 2, val).tolist() == [0, 1]
    for name in ("val/cat/1.jpg", "3.jpg"):
        path.write_text(f"1.jpg\n2.jpg\n{name}\n")
        with pytest.raises(
            DataError, match=rf"lists {name}, which is .*val/.* tested on cannot be"
        ):
            read_label_list(path, train, 3, val)


def test_encodings_of_lists(tmp_path):
    names = ["caf\udce9.jpg", "thé.jpg"]
    images = ImageFiles.of(tmp_path, names, torch.arange(2), ["a", "b"])
    path = tmp_path / "list.txt"
    content = b"\n".join(os.fsencode(name) for name in names)
    for start in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(start + content)
        assert read_label_list(path, images, 2).tolist() == [0, 1]
    path.write_text("thé.jpg\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"list\.txt is no list of names in UTF-8"):
        read_label_list(path, images)
    path.write_bytes(b"gone\xff.jpg\n")
    with pytest.raises(DataError, match=r"e\.g\. gone\\udcff\.jpg"):
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
    changed(
        categories=extra, images=published["images"][:3], annotations=published["annotations"][:3]
    )
    with pytest.raises(DataError, match="3 of the 6 categories .* e.g. species 3"):
        read_inaturalist_2018(inat)
    changed(images=[{"id": 1}])
    with pytest.raises(DataError, match=r"images\[0\] lacks 'file_name'"):
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


def first(part: str, **changes):
    """Changes the first entry of a part."""
    return lambda content: content[part][0].update(changes)


def again(part: str, **changes):
    """Appends the first entry of a part once more, changed."""
    return lambda content: content[part].append(content[part][0] | changes)


def replaced(part: str, value):
    return lambda content: content.update({part: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (again("annotations", id=99, category_id=3), "image 0 has annotations of categories 0 and"),
        (again("annotations"), "id 0 stands twice in annotations"),
        (again("images", file_name="x.jpg"), "id 0 stands twice in images"),
        (again("images", id=99), r"file_name train_val2018/.*train0\.jpg stands twice in images"),
        (again("categories", name="dodo"), "id 0 stands twice in categories"),
        (first("annotations", image_id=99), "annotation is of image 99, which images does not"),
        (first("annotations", image_id="0"), "annotation is of image '0', which images"),
        (first("annotations", category_id=99), "1 of 20 images have no known category"),
        (
            first("annotations", category_id="0"),
            r"annotations\[0\]\.category_id is '0', expected a",
        ),
        (first("annotations", category_id=None), r"category_id is None, expected a whole number"),
        (first("annotations", category_id=0.0), r"category_id is 0\.0, expected a whole number"),
        (first("annotations", category_id=False), "category_id is False, expected a whole"),
        (first("images", file_name=None), r"images\[0\]\.file_name is None, expected a text"),
        (first("images", file_name=""), "file_name is '', expected a text"),
        (first("images", file_name=["a"]), r"file_name is \['a'\], expected a text"),
        (first("images", file_name="\ud800.jpg"), "file_name .* is no text"),
        (first("images", file_name="a\0.jpg"), r"1 of the 20 images .* \(missing\)"),
        (first("images", id=[0]), r"images\[0\]\.id is \[0\], expected a whole number or a text"),
        (first("categories", id="0"), r"categories\[0\]\.id is '0', expected a whole number"),
        (replaced("images", []), "images is no list of entries"),
        (replaced("annotations", {}), "annotations is no list of entries"),
        (replaced("categories", None), "categories is no list of entries"),
        (replaced("images", [7]), r"images\[0\] is 7, expected an object"),
    ],
)
def test_inaturalist_ids_and_types(inat, change, message):
    path = inat / "train2018.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"(?=.*train2018\.json).*{message}"):
        read_inaturalist_2018(inat)


def test_inaturalist_annotated_twice_alike_is_no_fault(inat):
    path = inat / "train2018.json"
    content = json.loads(path.read_text())
    again("annotations", id=99)(content)
    path.write_text(json.dumps(content))
    assert read_inaturalist_2018(inat)[0].labels[:3].tolist() == [0, 1, 2]


def test_inaturalist_files_must_agree_on_the_categories(inat):
    path = inat / "val2018.json"
    content = json.loads(path.read_text())
    names = [entry["name"] for entry in content["categories"]]
    for entry, name in zip(content["categories"], reversed(names)):
        entry["name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"category 0 is 'species 0' in .*train2018.* 'species 4'"):
        read_inaturalist_2018(inat)
    del content["categories"]
    path.write_text(json.dumps(content))
    assert len(read_inaturalist_2018(inat)[1]) == 10


def test_json_of_other_encodings(inat):
    path = inat / "train2018.json"
    text = path.read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        assert len(read_inaturalist_2018(inat)[0]) == 20
    path.write_bytes(text.replace("species 0", "spécies 0").encode("latin-1"))
    with pytest.raises(
        DataError, match=r"train2018\.json is not JSON \(.*utf-8.*\): fetch it again"
    ):
        read_inaturalist_2018(inat)
    path.write_text(text.replace('"images"', '"images": [], "images"', 1))
    with pytest.raises(DataError, match="not JSON .*'images' stands twice in one object"):
        read_inaturalist_2018(inat)


def test_inaturalist_image_in_both_files(inat):
    path = inat / "val2018.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "train_val2018/Aves/0/train0.jpg"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"train0\.jpg is the same image as .*train0\.jpg"):
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
    with pytest.raises(DataError, match="1 of the 12 images of test .* e.g. 000030.jpg .missing"):
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


def voc_lists(voc):
    return voc / "VOCdevkit/VOC2007/ImageSets/Main"


def test_voc_class_names_may_have_hyphens_and_spaces(voc):
    lists = voc_lists(voc)
    for part in ("trainval", "test"):
        (lists / f"bird_{part}.txt").rename(lists / f"blue-footed booby_{part}.txt")
        (lists / f"._bicycle_{part}.txt").write_bytes(b"of macOS")
    train, test = read_voc2007(voc)
    assert train.classes == test.classes == ("aeroplane", "bicycle", "blue-footed booby")


def edited(path, change):
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def test_voc_lists_are_checked(voc):
    lists = voc_lists(voc)
    kept = {path: path.read_bytes() for path in lists.iterdir()}

    def refused(message):
        with pytest.raises(DataError, match=message):
            read_voc2007(voc)
        for path in lists.iterdir():
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)

    for name in trees.VOC_CLASSES:
        edited(lists / f"{name}_trainval.txt", lambda lines: [*lines, lines[0]])
    refused("lists of trainval in .*Main name 000000 twice")
    for name in trees.VOC_CLASSES:
        edited(lists / f"{name}_trainval.txt", lambda lines: lines[1:])
    refused(r"trainval\.txt names 24 images and .* 23, e.g. 000000 is not in those of the classes")
    edited(lists / "test.txt", lambda lines: lines[1:])
    refused(r"test\.txt names 11 images .* 12, e.g. 000024 is in those of the classes")
    for name in ("trainval", *(f"{name}_trainval" for name in trees.VOC_CLASSES)):
        one = "000030" if name == "trainval" else "000030  1"
        edited(lists / f"{name}.txt", lambda lines, one=one: [*lines, one])
    refused(r"000030\.jpg is the same image as .*000030\.jpg: images that are trained on")
    (lists / "bird_trainval.txt").unlink()
    refused(r"has bird_test\.txt and no bird_trainval\.txt")
    edited(lists / "bird_trainval.txt", lambda lines: [line.split()[0] + " -1" for line in lines])
    refused(r"bird_trainval\.txt: no image of trainval shows bird")
    for fault in ("000000", "000000 1.0", "000000 2", "1"):
        edited(lists / "bird_trainval.txt", lambda lines, fault=fault: [fault, *lines[1:]])
        refused(rf"bird_trainval\.txt: expected lines of an image and 1, -1 or 0.* found '{fault}'")
    (lists / "bird_test.txt").write_bytes(b"\xef\xbb\xbf" + kept[lists / "bird_test.txt"] + b"  \n")
    assert len(read_voc2007(voc)[1]) == 12


def test_voc_images_that_are_empty(voc):
    (voc / "VOCdevkit/VOC2007/JPEGImages/000003.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of the 24 images of trainval .* 000003\.jpg \(empty\)"):
        read_voc2007(voc)


def test_images_of_several_classes_are_in_no_list(voc, tmp_path):
    train, _ = read_voc2007(voc)
    (tmp_path / "list.txt").write_text("000001.jpg\n")
    with pytest.raises(DataError, match=r"list\.txt: images of several classes each"):
        read_label_list(tmp_path / "list.txt", train)


def test_images_of_several_classes_are_not_held_out(voc):
    with pytest.raises(DataError, match="set validation to 0"):
        find_images("voc2007", voc, classes=3, train=24, test=12, validation=4)


def test_images_without_labels_are_split_by_seed(tmp_path):
    folder = tmp_path / "photos"
    for number in range(20):
        trees.write_jpeg(folder / f"{number}.jpg", number)
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("none")
    trees.write_jpeg(folder / "below/x.jpg", 0)

    def found(seed, **changes):
        return find_images(
            "unlabelled", folder, **{"classes": 1, "train": 15, "test": 5, "seed": seed} | changes
        )

    names = [
        [{part.name(i) for i in range(len(part))} for part in (splits.train, splits.test)]
        for splits in (found(0), found(0), found(1))
    ]
    assert names[0] == names[1] != names[2]
    train, test = names[0]
    assert len(train) == 15 and len(test) == 5
    assert train | test == {f"{number}.jpg" for number in range(20)}
    assert found(0).train.classes == ("unlabelled",) and not found(0).train.labels.any()
    assert len(found(0, validation=3).validation) == 3
    with pytest.raises(DataError, match=r"has 20 images, expected 21 \(unlabelled; 1 nam"):
        found(0, train=16)
    with pytest.raises(DataError, match=r"none is not a folder"):
        find_images("unlabelled", tmp_path / "none", classes=1, train=1, test=1)
