import pytest
import torch

from e2mc.data.errors import DataError
from e2mc.data.images import ImageSet, Splits


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
