import os
from dataclasses import replace

import pytest
import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.images import ImageSet, Splits, content_digest, read_digest


def images(count):
    pixels = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 2, ("a", "b"))


def test_splits_round_trip(tmp_path):
    splits = Splits(images(6), images(3), images(2), {"few": torch.tensor([1, 4])})
    splits.save(tmp_path / "images.pt")
    loaded = Splits.load(tmp_path / "images.pt")
    assert loaded.train.classes == ("a", "b")
    assert torch.equal(loaded.lists["few"], torch.tensor([1, 4]))
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(loaded, name).images, getattr(splits, name).images)
        assert torch.equal(getattr(loaded, name).labels, getattr(splits, name).labels)


def test_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "images.pt"
    Splits(images(6), images(3), images(2)).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"images\.pt is damaged .*: make it again, `snakemake"):
        Splits.load(path)


def test_file_of_another_version_is_one_sentence(tmp_path):
    path = tmp_path / "images.pt"
    torch.save({"classes": ["a"]}, path)
    with pytest.raises(DataError, match=r"images\.pt is not a data set of this version"):
        Splits.load(path)


def test_saving_the_same_again_leaves_the_file_untouched(tmp_path):
    path = tmp_path / "images.pt"
    splits = Splits(images(6), images(3), images(2))
    splits.save(path)
    os.utime(path, (1, 1))
    before = path.stat()
    Splits(splits.train, splits.validation, splits.test).save(path)
    assert (path.stat().st_mtime, path.stat().st_ino) == (1, before.st_ino)
    Splits(splits.train, splits.test, splits.validation).save(path)
    assert path.stat().st_mtime != 1 and len(Splits.load(path).validation) == 2
    path.write_bytes(path.read_bytes()[:-1])
    splits.save(path)
    assert len(Splits.load(path).validation) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["images.pt"]


def files(folder, names=("a/1.jpg", "b/1.jpg", "a/22.jpg", "b/2.jpg"), classes=("a", "b")):
    return ImageFiles.of(folder, names, torch.tensor([0, 1, 0, 1]), classes)


def split(source, train=(0, 1), validation=(2,), test=(3,), **lists):
    parts = (source.subset(torch.tensor(rows)) for rows in (train, validation, test))
    return Splits(*parts, {name: torch.tensor(rows) for name, rows in lists.items()})


def test_digest_is_of_the_images_and_not_of_their_place(tmp_path):
    digest = content_digest(split(files(tmp_path / "here")))
    assert len(digest) == 64 and digest == content_digest(split(files(tmp_path / "there")))
    more = ("a/0.jpg", "a/1.jpg", "b/1.jpg", "a/22.jpg", "b/2.jpg")
    whole = ImageFiles.of(tmp_path, more, torch.tensor([0, 0, 1, 0, 1]), ("a", "b"))
    assert digest == content_digest(split(whole, (1, 2), (3,), (4,)))
    split(files(tmp_path)).save(tmp_path / "images.pt")
    assert digest == read_digest(tmp_path / "images.pt")
    assert digest == content_digest(Splits.load(tmp_path / "images.pt"))


def test_digest_changes_with_everything_that_decides_a_number(tmp_path):
    source = files(tmp_path)
    labels = replace(source, labels=torch.tensor([0, 1, 1, 1]))
    several = replace(source, labels=torch.eye(2, dtype=torch.int8)[source.labels])
    found = [
        split(source),
        split(source, (1, 0)),
        split(source, (0,), (1, 2)),
        split(source, (0, 1), (3,), (2,)),
        split(labels),
        split(several),
        split(files(tmp_path, ("a/1.jpg", "b/1.jpg", "a/2.jpg", "2b/2.jpg"))),
        split(files(tmp_path, classes=("a", "c"))),
        split(files(tmp_path, classes=("a", "b", "c"))),
        split(source, few=(0,)),
        split(source, few=(1,)),
        split(source, many=(0,)),
        split(source, few=(0,), many=(0,)),
    ]
    assert len({content_digest(splits) for splits in found}) == len(found)


def test_digest_of_images_in_memory_is_of_their_pixels():
    source = images(4)
    changed = source.images.clone()
    changed[3, 0, 0, 0] ^= 1
    turned = source.images.view(4, 1, 2, 8)
    found = [
        split(ImageSet(pixels, source.labels, source.classes))
        for pixels in (source.images, changed, turned)
    ]
    assert len({content_digest(splits) for splits in found}) == 3
    again = ImageSet(source.images.clone(), source.labels.clone(), source.classes)
    assert content_digest(split(source)) == content_digest(split(again))


def test_files_without_a_digest_are_read(tmp_path):
    """As earlier versions wrote them."""
    path, old = tmp_path / "images.pt", tmp_path / "old.pt"
    for splits in (split(images(4)), split(files(tmp_path), few=(1,))):
        splits.save(path)
        content = torch.load(path, weights_only=True)
        assert content.pop("digest") == content_digest(splits)
        torch.save(content, old)
        assert content_digest(Splits.load(old)) == read_digest(old) == content_digest(splits)
    torch.save({"classes": ["a"]}, old)
    with pytest.raises(DataError, match=r"old\.pt is not a data set of this version"):
        read_digest(old)
