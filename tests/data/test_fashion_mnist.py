import gzip
import struct
from pathlib import Path

import pytest

from e2mc.data import debian, fashion_mnist
from e2mc.data.errors import DataError
from e2mc.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist


def write_files(folder, monkeypatch, train=12, test=6):
    """Files in the published format, and their checksums taken for the published ones."""
    import hashlib

    checksums = {}
    for part, count in (("train", train), ("t10k", test)):
        images = struct.pack(">4I", 0x803, count, 28, 28) + bytes(range(count)) * 784
        labels = struct.pack(">2I", 0x801, count) + bytes(index % 10 for index in range(count))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte.gz"
            (folder / name).write_bytes(gzip.compress(content))
            checksums[name] = (hashlib.md5((folder / name).read_bytes()).hexdigest(),)
    monkeypatch.setattr(fashion_mnist, "MD5", checksums)


def test_reads_the_published_format(tmp_path, monkeypatch):
    write_files(tmp_path, monkeypatch)
    train, test = load_fashion_mnist(fetch_fashion_mnist(tmp_path, tmp_path / "unused"))
    assert train.images.shape == (12, 1, 28, 28) and test.images.shape == (6, 1, 28, 28)
    assert train.labels.tolist() == [*range(10), 0, 1]
    assert train.classes[9] == "Ankle boot"


def test_truncated_file_is_named_with_its_checksum(tmp_path, monkeypatch):
    write_files(tmp_path, monkeypatch)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz has MD5 .* damaged"):
        load_fashion_mnist(tmp_path)


def test_missing_file_is_named(tmp_path, monkeypatch):
    write_files(tmp_path, monkeypatch)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="t10k-labels"):
        load_fashion_mnist(tmp_path)


def test_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch_fashion_mnist(Path("~"), tmp_path / "unused") == tmp_path


def test_counts_and_classes_are_checked(tmp_path, monkeypatch):
    write_files(tmp_path, monkeypatch)
    monkeypatch.setattr(fashion_mnist, "CLASSES", fashion_mnist.CLASSES[:9])
    with pytest.raises(DataError, match=r"train-labels.*labels run from 0 to 9, .* 9 classes"):
        load_fashion_mnist(tmp_path)


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match=r"is not a folder: set data_folders\.fashion-mnist"):
        fetch_fashion_mnist(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("lists", [True, False])
def test_debian_package_is_unpacked_and_never_installed(user, lists, tmp_path, monkeypatch):
    commands = []

    def run(command, cwd=None):
        commands.append(" ".join(command))
        if "download" in command:
            if not lists and "-o" not in command:
                raise OSError("Unable to locate package dataset-fashion-mnist")
            (Path(cwd) / "dataset-fashion-mnist_all.deb").touch()

    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "quietly", run)
    folder = fashion_mnist._apt(tmp_path)
    assert folder == tmp_path / "usr/share/datasets/fashion-mnist"
    assert commands[0] == "apt-get download -qq dataset-fashion-mnist"
    assert commands[-1].startswith("dpkg-deb -x") and commands[-1].endswith(str(tmp_path))
    assert not any("install" in command for command in commands)
    if lists:
        assert len(commands) == 2
    else:  # lists of the machine are neither needed nor written
        assert "update -qq" in commands[1] and "download -qq" in commands[2]
        assert all(f"Dir::State::Lists={tmp_path}" in command for command in commands[1:3])
    assert [path.name for path in tmp_path.iterdir()] == []


def test_says_what_was_tried_when_nothing_works(tmp_path, monkeypatch):
    def refuse(download_to):
        raise OSError("no network")

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", "nowhere")
    monkeypatch.setattr(fashion_mnist, "_apt", refuse)
    monkeypatch.setattr(fashion_mnist, "_torchvision", refuse)
    with pytest.raises(DataError, match=r"could not be fetched .*no network.*name it in config"):
        fetch_fashion_mnist(None, tmp_path)
