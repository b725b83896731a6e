"""Parquet shards of the Hugging Face kind; those that need pyarrow are skipped without it."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from e2mc.data import parquet
from e2mc.data.errors import DataError
from e2mc.data.on_disk import find_images
from e2mc.data.parquet import Row, Shard, class_names, read_parquet

NAMES = ("cat", "dog")


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def metadata(names=NAMES):
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Writes shards whose rows are told to the reader, as if pyarrow had read them."""
    content = {}

    def write(name, labels, seed=0, names=NAMES, images=None):
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        images = [png(seed + i) for i in range(len(labels))] if images is None else images
        content[path] = [Row(*pair) for pair in zip(images, labels)], names
        return path

    monkeypatch.setattr(parquet, "open_shard", lambda p: Shard(iter(content[p][0]), content[p][1]))
    return write


def test_shards_are_unpacked_in_their_order(shards, tmp_path):
    shards("train-00001-of-00002.parquet", [1, 0], seed=10)
    shards("train-00000-of-00002.parquet", [0, 1, 1], seed=20)
    shards("test-00000-of-00001.parquet", [1, 0], seed=30)
    splits = find_images(
        "parquet", tmp_path, classes=2, train=5, test=2, unpack_to=tmp_path / "unpacked"
    )
    assert splits.train.classes == NAMES and splits.train.labels.tolist() == [0, 1, 1, 1, 0]
    assert splits.train.path(3).read_bytes() == png(10)
    assert splits.train.path(0).parent == tmp_path / "unpacked/train"
    assert splits.test.path(0).read_bytes() == png(30)


def test_what_is_unpacked_stays(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [0, 1])
    found = read_parquet(tmp_path, tmp_path / "unpacked")
    assert found.test is None and found.validation is None
    before = found.train.path(0).stat().st_mtime_ns
    assert read_parquet(tmp_path, tmp_path / "unpacked").train.path(0).stat().st_mtime_ns == before
    shards("train-00000-of-00001.parquet", [0, 1], seed=5)
    assert read_parquet(tmp_path, tmp_path / "unpacked").train.path(0).read_bytes() == png(5)


def test_validation_alone_is_tested_on(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [0, 1])
    shards("validation-00000-of-00001-0123456789abcdef.parquet", [0, 1, 0], seed=5)
    found = read_parquet(tmp_path, tmp_path / "unpacked")
    assert len(found.test) == 3 and found.validation is None
    shards("test-00000-of-00001.parquet", [0, 1, 0, 1], seed=9)
    found = read_parquet(tmp_path, tmp_path / "unpacked")
    assert (len(found.validation), len(found.test)) == (3, 4)


def test_classes_without_names_are_numbers(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [2, 0, 1], names=())
    assert read_parquet(tmp_path, tmp_path).train.classes == ("0", "1", "2")


def test_labels_that_are_no_numbers_of_classes(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [0, 10**12], names=())
    with pytest.raises(DataError, match="labels up to 1,000,000,000,000 for 2 images: expected"):
        read_parquet(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], r"train-.*parquet, row 1: label is -1, expected the number of a class"),
        ([0, None], "row 1: label is None"),
        ([0, 2], "the train shards have no image of 1 of the 2 classes, e.g. dog"),
        ([0, 1, 2], "the train shards: labels run from 0 to 2, but there are 2 classes"),
    ],
)
def test_labels_that_are_no_classes(labels, message, shards, tmp_path):
    shards("train-00000-of-00001.parquet", labels)
    with pytest.raises(DataError, match=message):
        read_parquet(tmp_path, tmp_path)


def test_labels_that_differ_between_parts(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [0, 1])
    shards("test-00000-of-00001.parquet", [0, 0])
    with pytest.raises(DataError, match="the test shards have no image of 1 of the 2 classes"):
        read_parquet(tmp_path, tmp_path)
    shards("test-00000-of-00001.parquet", [0, 1], names=("dog", "cat"))
    with pytest.raises(DataError, match="names other classes than the shards before it"):
        read_parquet(tmp_path, tmp_path)


def test_images_that_are_paths_alone(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [0, 1], images=[png(0), None])
    with pytest.raises(DataError, match="row 1: the image has no bytes, only a path"):
        read_parquet(tmp_path, tmp_path)


def test_shards_that_are_missing(shards, tmp_path):
    with pytest.raises(DataError, match="has no train-00000-of-….parquet: name the folder that"):
        read_parquet(tmp_path, tmp_path)
    shards("train-00001-of-00003.parquet", [0, 1])
    with pytest.raises(DataError, match="lacks shard 00000 of train, of 00003 in all"):
        read_parquet(tmp_path, tmp_path)


def test_files_that_are_no_shards(shards, tmp_path):
    shards("train-00000-of-00001.parquet", [0, 1])
    other = shards("everything.parquet", [0, 1])
    with pytest.raises(DataError, match="everything.parquet is no shard of train, validation"):
        read_parquet(tmp_path, tmp_path)
    other.rename(other.with_name("train-00000-of-00001-0123456789abcdef.parquet"))
    with pytest.raises(DataError, match="which is the same shard: remove one of them"):
        read_parquet(tmp_path, tmp_path)


def test_names_of_classes_in_the_metadata():
    assert class_names(metadata(), "label") == NAMES
    for found in ({}, {b"huggingface": b"{"}, {b"huggingface": b"{}"}, {b"pandas": b"{}"}):
        assert class_names(found, "label") == ()
    assert class_names(metadata(), "image") == ()


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "train-00000-of-00001.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow, which is not installed: `pip install 'e2"):
        read_parquet(tmp_path, tmp_path)


def write_table(path, columns, names=NAMES):
    """A real file of these columns."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table as write

    path.parent.mkdir(exist_ok=True)
    write(pyarrow.table(columns).replace_schema_metadata(metadata(names)), path)


def images(count, seed=0):
    return [{"bytes": png(seed + i), "path": f"{i}.png"} for i in range(count)]


def test_real_files(tmp_path):
    folder = tmp_path / "data"
    for number in range(2):
        columns = {"image": images(3, 10 * number), "label": [0, 1, number]}
        write_table(folder / f"train-0000{number}-of-00002.parquet", columns)
    write_table(folder / "test-00000-of-00001.parquet", {"image": images(2, 50), "label": [1, 0]})
    found = read_parquet(tmp_path, tmp_path / "unpacked")
    assert found.train.labels.tolist() == [0, 1, 0, 0, 1, 1] and found.train.classes == NAMES
    assert found.train.path(3).read_bytes() == png(10)
    assert list(found.train.broken()) == []


def test_numbers_of_any_type(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "train-00000-of-00001.parquet"
    for labels in (
        [False, True],
        pyarrow.array([0, 1], pyarrow.uint8()),
        pyarrow.array([0, 1]).dictionary_encode(),
    ):
        write_table(path, {"image": images(2), "label": labels})
        found = read_parquet(tmp_path, tmp_path / "unpacked").train
        assert found.labels.dtype == torch.long and found.labels.tolist() == [0, 1]


def test_real_files_with_faults(tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    write_table(path, {"picture": images(2), "label": [0, 1]})
    with pytest.raises(DataError, match="has the columns picture, label, expected image and label"):
        read_parquet(tmp_path, tmp_path)
    write_table(path, {"image": [[1, 2], [3, 4]], "label": [0, 1]})
    with pytest.raises(DataError, match="found a row of list and int, expected a struct"):
        read_parquet(tmp_path, tmp_path)
    write_table(path, {"image": images(2), "label": ["cat", "dog"]})
    with pytest.raises(DataError, match="found a row of dict and str, expected a struct"):
        read_parquet(tmp_path, tmp_path)
    write_table(path, {"image": [{"bytes": [1, 2]}] * 2, "label": [0, 1]})
    with pytest.raises(DataError, match="bytes of an image are of type list, expected binary"):
        read_parquet(tmp_path, tmp_path)
    whole = {"image": images(200), "label": [0, 1] * 100}
    write_table(path, whole)
    content = bytearray(path.read_bytes())
    content[100:5000] = bytes(4900)
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged .*: fetch it again"):
        read_parquet(tmp_path, tmp_path)
    path.write_bytes(b"no Parquet")
    with pytest.raises(DataError, match="is no Parquet file .*: fetch it again"):
        read_parquet(tmp_path, tmp_path)
