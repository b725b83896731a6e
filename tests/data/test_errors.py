from pathlib import Path

import pytest
import trees

from e2mc.data.errors import DataError
from e2mc.data.files import decode
from e2mc.data.on_disk import find_images

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n"


def said(path: Path) -> str:
    return f"{path} is a pointer of Git LFS, not the file: run `git lfs pull`"


def test_pointer_instead_of_an_image(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(POINTER)
    with pytest.raises(DataError) as caught:
        decode(path)
    assert said(path) in str(caught.value)


def test_pointer_instead_of_a_label_list(tmp_path):
    folder, path = trees.imagenet(tmp_path / "images", classes=2), tmp_path / "list.txt"
    path.write_bytes(POINTER)
    with pytest.raises(DataError) as caught:
        find_images("imagenet", folder, classes=2, train=12, test=6, lists={"1percent": (path, 3)})
    assert said(path) in str(caught.value)


def test_pointer_instead_of_annotations(tmp_path):
    folder = trees.inaturalist(tmp_path)
    path = folder / "train2018.json"
    path.write_bytes(POINTER)
    with pytest.raises(DataError) as caught:
        find_images("inaturalist-2018", folder, classes=5, train=20, test=10)
    assert said(path) in str(caught.value)


def test_pointer_instead_of_a_shard(tmp_path):
    """Without pyarrow, too: shards that were cloned without their store are pointers."""
    path = tmp_path / "data/train-00000-of-00001.parquet"
    path.parent.mkdir()
    path.write_bytes(POINTER)
    with pytest.raises(DataError) as caught:
        find_images("parquet", tmp_path, classes=2, train=12, test=6, unpack_to=tmp_path / "to")
    assert said(path) in str(caught.value)


def test_pointer_instead_of_a_list_of_a_class(tmp_path):
    folder = trees.voc(tmp_path)
    path = next(folder.rglob("*_trainval.txt"))
    path.write_bytes(POINTER)
    with pytest.raises(DataError) as caught:
        find_images("voc2007", folder, classes=3, train=24, test=12)
    assert said(path) in str(caught.value)
