"""Data sets of torchvision, generated small in their real formats."""

from __future__ import annotations

import urllib.error

import published
import pytest
import torch

from e2mc.data.errors import DataError
from e2mc.data.files import ImageFiles
from e2mc.data.found import Expected, divide
from e2mc.data.images import ImageSet, Splits
from e2mc.data.torchvision_sets import SETS, Selection, read_torchvision
from e2mc.errors import InputError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def read(root, name, **selection):
    found, folder = read_torchvision(Selection(name, **selection), root, root / "downloads")
    assert folder == root
    return found


def in_turn(labels, classes):
    return labels.tolist() == [i % classes for i in range(len(labels))]


@pytest.mark.parametrize(
    ("name", "write", "shape", "classes"),
    [
        ("CIFAR10", published.cifar10, (3, 32, 32), 10),
        ("CIFAR100", published.cifar100, (3, 32, 32), 5),
        ("STL10", published.stl10, (3, 96, 96), 10),
        ("SVHN", published.svhn, (3, 32, 32), 10),
        ("MNIST", published.mnist, (1, 28, 28), 10),
    ],
)
def test_arrays_are_read_into_memory(name, write, shape, classes, tmp_path, monkeypatch):
    write(tmp_path, monkeypatch)
    found = read(tmp_path, name)
    assert found.validation is None and found.unlabelled is None
    for part in (found.train, found.test):
        assert isinstance(part, ImageSet)
        assert part.images.shape[1:] == shape and part.images.is_contiguous()
        assert len(part.classes) == classes and part.channels == shape[0] == SETS[name].channels
        # a class is a shade, which rises from class to class
        means = part.images.float().mean(dim=(1, 2, 3))
        assert torch.corrcoef(torch.stack((means, part.labels.float())))[0, 1] > 0.99
    assert sorted(set(found.test.labels.tolist())) == list(range(classes))


def test_pixels_are_where_torchvision_shows_them(tmp_path, monkeypatch):
    """Rows and columns are not exchanged."""
    from torchvision import datasets

    published.cifar100(tmp_path, monkeypatch)
    published.stl10(tmp_path, monkeypatch)
    published.svhn(tmp_path, monkeypatch)
    for name, options in (
        ("CIFAR100", {"train": True}),
        ("STL10", {"split": "train"}),
        ("SVHN", {"split": "train"}),
    ):
        shown, label = getattr(datasets, name)(str(tmp_path), **options)[3]
        ours = read(tmp_path, name).train
        pixels = torch.frombuffer(bytearray(shown.tobytes()), dtype=torch.uint8)
        assert torch.equal(ours.images[3], pixels.view(*shown.size, 3).permute(2, 0, 1)), name
        assert ours.labels[3] == label


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_likes_of_mnist(name, tmp_path, monkeypatch):
    published.mnist(tmp_path, monkeypatch, name)
    found = read(tmp_path, name)
    assert len(found.train) == 20 and in_turn(found.train.labels, 10)
    assert len(found.train.classes) == 10


def test_emnist(tmp_path, monkeypatch):
    published.emnist(tmp_path, monkeypatch)
    found = read(tmp_path, "EMNIST", split="letters")
    assert found.train.classes[0] == "a" and len(found.train.classes) == 26
    assert in_turn(found.train.labels, 26) and len(found.test) == 26


def test_emnist_digits_are_numbered_from_0(tmp_path, monkeypatch):
    published.emnist(tmp_path, monkeypatch, split="digits", classes=10, first=0)
    found = read(tmp_path, "EMNIST", split="digits")
    assert found.train.classes == tuple("0123456789") and in_turn(found.test.labels, 10)


def test_unlabelled_images_are_pretrained_on_and_never_scored(tmp_path, monkeypatch):
    published.stl10(tmp_path, monkeypatch)
    found = read(tmp_path, "STL10", unlabelled=True)
    splits = divide(found, Expected(10, 20, 10, 10, unlabelled=30), tmp_path, "STL10")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (10, 10, 10)
    assert len(splits.pretraining) == 10 + 30
    assert torch.equal(splits.pretraining.images[:10], splits.train.images)
    assert not splits.pretraining.labels.any()
    splits.save(tmp_path / "images.pt")
    again = Splits.load(tmp_path / "images.pt")
    assert torch.equal(again.pretraining.images, splits.pretraining.images)
    with pytest.raises(DataError, match="has 30 unlabelled images, expected 100,000"):
        divide(found, Expected(10, 20, 10, 10, unlabelled=100_000), tmp_path, "STL10")


def test_what_is_kept_as_files_stays_on_disk(tmp_path, monkeypatch):
    published.food101(tmp_path)
    published.aircraft(tmp_path)
    for name, counts in (("Food101", (6, 4)), ("FGVCAircraft", (4, 2))):
        found = read(tmp_path, name)
        assert isinstance(found.train, ImageFiles) and found.validation is None
        assert (len(found.train), len(found.test)) == counts
        assert found.train.path(0).is_file() and found.train.classes == found.test.classes
        assert not SETS[name].in_memory
    assert read(tmp_path, "Food101").train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_parts_for_validation_are_kept_apart(tmp_path, monkeypatch):
    published.dtd(tmp_path)
    published.flowers102(tmp_path, monkeypatch)
    for name, count in (("DTD", 2), ("Flowers102", 102)):
        found = read(tmp_path, name)
        assert [len(p) for p in (found.train, found.validation, found.test)] == [count] * 3
        assert len(found.train.classes) == count and found.train.path(0).is_file()
        splits = divide(found, Expected(count, 2 * count, count, count), tmp_path, name)
        assert len(splits.validation) == count
    with pytest.raises(DataError, match="102 images for validation, expected 5"):
        divide(found, Expected(102, 204, 102, 5), tmp_path, name)


def test_damaged_file_is_named_with_its_checksum(tmp_path, monkeypatch):
    folder = published.cifar100(tmp_path, monkeypatch)
    (folder / "test").write_bytes((folder / "test").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"cifar-100-python/test has MD5 .* published file has"):
        read(tmp_path, "CIFAR100")


def test_pickle_that_is_not_the_published_one_is_never_opened(tmp_path, monkeypatch):
    folder = published.cifar100(tmp_path, monkeypatch)
    (folder / "train").write_bytes(b"cos\nmkdir\n(S'" + bytes(tmp_path / "made") + b"'\ntR.")
    with pytest.raises(DataError, match="has MD5"):
        read(tmp_path, "CIFAR100")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("write", [published.mnist, published.emnist])
def test_checksums_are_of_what_is_read(write, tmp_path, monkeypatch):
    """torchvision has none of the files that it unpacks."""
    folder = write(tmp_path, monkeypatch)
    path = next(folder.iterdir())
    path.write_bytes(path.read_bytes() + b"?")
    name, split = ("MNIST", None) if write is published.mnist else ("EMNIST", "letters")
    with pytest.raises(DataError, match=f"{path.name} has MD5"):
        read(tmp_path, name, split=split)


def test_missing_file_is_named(tmp_path, monkeypatch):
    folder = published.cifar100(tmp_path, monkeypatch)
    (folder / "meta").unlink()
    with pytest.raises(DataError, match=r"cifar-100-python/meta is missing: CIFAR100 was not unp"):
        read(tmp_path, "CIFAR100")


def test_missing_image_is_named(tmp_path):
    folder = published.food101(tmp_path)
    (folder / "images/waffles/1001.jpg").unlink()
    with pytest.raises(
        DataError, match=r"1 of the 6 images of Food101's train .*waffles/1001\.jpg \(missing\)"
    ):
        read(tmp_path, "Food101")


def test_list_of_a_data_set_that_is_damaged(tmp_path):
    folder = published.food101(tmp_path)
    (folder / "meta/train.json").write_text("{")
    with pytest.raises(DataError, match="Food101 cannot be read .*damaged; fetch it again"):
        read(tmp_path, "Food101")


def test_image_of_both_parts_is_refused(tmp_path):
    folder = published.food101(tmp_path)
    content = (folder / "meta/test.json").read_text().replace("waffles/1003", "waffles/1000")
    (folder / "meta/test.json").write_text(content)
    with pytest.raises(DataError, match="images that are trained on cannot be tested on"):
        read(tmp_path, "Food101")


@pytest.mark.parametrize("name", ["CIFAR100", "STL10", "SVHN", "MNIST", "EMNIST", "Food101", "DTD"])
def test_without_a_network(name, tmp_path):
    selection = Selection(name, "letters" if name == "EMNIST" else None)
    with pytest.raises(
        DataError,
        match=rf"{name} is in no folder .* downloaded \(.*no route to host.*\): fetch it where .*"
        r"data_folders\.torchvision",
    ) as caught:
        read_torchvision(selection, None, tmp_path)
    assert "\n" not in str(caught.value)


def test_what_one_folder_lacks_is_taken_from_the_other(tmp_path, monkeypatch):
    (tmp_path / "given").mkdir()
    published.cifar100(tmp_path / "downloads", monkeypatch)
    selection = Selection("CIFAR100")
    found, folder = read_torchvision(selection, tmp_path / "given", tmp_path / "downloads")
    assert folder == tmp_path / "downloads" and len(found.train) == 40


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder: set data_folders\.torchvision"):
        read_torchvision(Selection("CIFAR100"), tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("CIFAR1000", {}, "data set 'CIFAR1000' does not exist, expected one of CIFAR10, CIFAR100"),
        ("cifar-100", {}, "data set 'cifar-100' does not exist, did you mean 'CIFAR100'"),
        ("CelebA", {}, "data set 'CelebA' does not exist, expected one of"),
        ("ImageNet", {}, "ImageNet is read by dataset: on-disk with format: imagenet"),
        ("ImageFolder", {}, "ImageFolder is read by dataset: on-disk with format: folder"),
        ("EMNIST", {}, "split of EMNIST None does not exist, expected one of byclass, bymerge"),
        ("MNIST", {"split": "letters"}, "split: MNIST has no splits to choose from"),
        ("CIFAR10", {"unlabelled": True}, "unlabelled: CIFAR10 has no unlabelled images"),
    ],
)
def test_names_that_cannot_be_read(name, options, message):
    with pytest.raises(InputError, match=message):
        Selection(name, **options)
