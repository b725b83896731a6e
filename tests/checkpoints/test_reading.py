"""Files that are read whatever their name, and what is said of those that are no checkpoints."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import gzip
import io
import json
import pathlib
import pickle
import tarfile
import types
import zipfile

import numpy as np
import pytest
import torch

from e2mc.checkpoints.metadata import STAND_INS
from e2mc.checkpoints.reading import CheckpointError, read_tensors

CONTENT = {"state_dict": {"weight": torch.arange(12.0).reshape(4, 3)}, "epoch": 3}


def test_legacy_files_cut_off_anywhere_are_damaged(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.pth is damaged"):
            read_tensors(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_changed_bytes_raise_nothing_else(zipped, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        with contextlib.suppress(CheckpointError):  # a changed weight is still a weight
            read_tensors(path)


@pytest.mark.parametrize("name", ["model.bin", "model.pth", "model.safetensors", "model"])
@pytest.mark.parametrize("writer", ["zip", "legacy", "safetensors"])
def test_the_name_does_not_matter(name, writer, tmp_path):
    path = tmp_path / name
    weights = CONTENT["state_dict"]
    if writer == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=writer == "zip")
    for mapped in (False, True):
        assert torch.equal(read_tensors(path, mapped=mapped)["weight"], weights["weight"])


def tar_of(path, **members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def zip_of(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def bytes_of(content):
    return lambda path: path.write_bytes(content)


FOREIGN = {
    "lfs": (
        bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "is a pointer of Git LFS.*git lfs pull",
    ),
    "html": (bytes_of(b"\n<!DOCTYPE html><html>"), "is a web page.*resolve"),
    "xml": (bytes_of(b"<?xml version='1.0'?><Error>AccessDenied</Error>"), "is a web page"),
    "empty": (bytes_of(b""), "is damaged: it is empty"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "is a gzip archive: unpack"),
    "bzip2": (bytes_of(b"BZh91AY&SY"), "is a bzip2 archive"),
    "zstd": (bytes_of(b"\x28\xb5\x2f\xfd0000"), "is a zstd archive"),
    "tar": (lambda path: tar_of(path, weights=b"x"), r"is a tar archive \(weights\): unpack"),
    "old torch": (
        lambda path: tar_of(path, sys_info=b"", pickle=b"", storages=b"", tensors=b""),
        "is a file of a PyTorch before 0.1.10",
    ),
    "zip": (
        lambda path: zip_of(path, weights=b"x"),
        r"is a zip archive \(weights\), not a",
    ),
    "npz": (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "is an archive of NumPy arrays"),
    "npy": (lambda path: np.save(path.open("wb"), np.ones(3)), "is one NumPy array"),
    "hdf5": (bytes_of(b"\x89HDF\r\n\x1a\n\x00"), "is an HDF5 file, as Keras writes"),
    "gguf": (bytes_of(b"GGUF\x03\x00"), "is a GGUF file"),
    "python 2": (
        bytes_of(b"(dp0\nS'a'\np1\nI1\ns."),
        "is a pickle of an old protocol, as Py",
    ),
    "pickle 1": (lambda path: path.write_bytes(pickle.dumps({"a": 1}, 1)), "as Python 2 writes"),
    "pickle 2": (
        lambda path: path.write_bytes(pickle.dumps({"a": 1}, 2)),
        "is a pickle that torch.save did not write",
    ),
    "pickle 4": (
        lambda path: path.write_bytes(pickle.dumps({"a": 1}, 4)),
        "is a pickle of protocol 4, which cannot be read safely",
    ),
    "protocol 4": (
        lambda path: torch.save(CONTENT, path, pickle_protocol=4),
        "another protocol than 2 .* save it again with torch.save, without pickle_protocol",
    ),
    "script": (
        lambda path: torch.jit.script(torch.nn.Linear(2, 2)).save(str(path)),
        "is a TorchScript archive, whose code is not run: save its weights alone",
    ),
    "index": (
        lambda path: path.write_text(json.dumps({"weight_map": {"a": "1", "b": "2"}})),
        "is the index of weights in 2 files",
    ),
    "json": (
        bytes_of(b'{"architecture": "resnet18"}'),
        r"is text \(JSON\), not the file of the",
    ),
    "png": (
        bytes_of(b"\x89PNG\r\n\x1a\n"),
        r"begins with the bytes 89 50 4E 47 0D 0A .* \('.PNG",
    ),
    "text": (bytes_of(b"not a checkpoint"), r"begins with the bytes 6E .* \('not a ch'\)"),
    "folder": (
        lambda path: (path.mkdir(), (path / "a.pth").touch()),
        r"is a folder: .*a\.pth",
    ),
    "distributed": (
        lambda path: (path.mkdir(), (path / "__0_0.distcp").touch()),
        "is a folder, a distributed checkpoint: make it one file with .*dcp_to_torch",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", FOREIGN)
def test_first_bytes_say_what_it_is_and_what_to_do(kind, tmp_path):
    path = tmp_path / "model.pth"
    write, message = FOREIGN[kind]
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(path)
    text = str(caught.value)
    assert text.startswith(f"checkpoint {path} ") and "\n" not in text and len(text) < 500
    assert "weights_only" not in text


class Weights(collections.OrderedDict):
    """A class of the program that made the file."""


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("stranger", [Evil(), Weights(), torch.nn.Linear(2, 2)], ids=type)
def test_other_names_are_refused_with_the_line_that_saves_the_weights(
    zipped, stranger, tmp_path, capsys
):
    path = tmp_path / "x.pth"
    torch.save({**CONTENT, "more": stranger}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"it asks for \S+; .*torch\.save\(model\.state_d"
    ) as e:
        read_tensors(path)
    assert "weights_only" not in str(e.value) and "executed" not in capsys.readouterr().out


METADATA = {
    "namespace": argparse.Namespace(lr=0.1, out=pathlib.Path("/a/b")),
    "simple": types.SimpleNamespace(a=1),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "counter": collections.Counter("aab"),
    "ordered": collections.OrderedDict(a=1),
    "deque": collections.deque([1, 2], maxlen=3),
    "path": pathlib.PurePosixPath("/a/b"),
    "float": np.float64(2.5),
    "float32": np.float32(2.5),
    "int": np.int64(3),
    "bool": np.bool_(True),
    "string": np.str_("a"),
    "array": np.arange(3.0),
    "random": np.random.RandomState(0).get_state(),
    "generator": np.random.RandomState(0),
    "date": datetime.datetime(2026, 1, 1),
    "version": torch.torch_version.TorchVersion("2.1.0"),
    "set": {1, 2},
    "dtype": torch.float16,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", METADATA)
def test_harmless_metadata_is_read_by_stand_ins(name, zipped, tmp_path):
    content = {**CONTENT, name: METADATA[name]}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "x.pth")
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    expected = {
        "float": 2.5,
        "float32": 2.5,
        "int": 3,
        "bool": True,
        "path": "/a/b",
        "version": "2.1.0",
        "defaultdict": {"a": [1]},
        "deque": [1, 2],
    }
    assert found[name] == expected.get(name, found[name])


def test_weights_in_a_dictionary_of_another_class(tmp_path):
    weights = collections.defaultdict(dict, CONTENT["state_dict"])
    torch.save(weights, tmp_path / "x.pth")
    assert torch.equal(read_tensors(tmp_path / "x.pth")["weight"], weights["weight"])


def test_stand_ins_import_and_call_nothing_of_the_file():
    for made, name in STAND_INS:
        assert made.__module__ == "e2mc.checkpoints.metadata", name


def test_python_2_strings(tmp_path):
    """Names of bytes, as torch.save of Python 2 wrote them, and ones that are no text."""
    path = tmp_path / "x.pth"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    name = b"X\x05\x00\x00\x00epoch"
    assert name in whole
    path.write_bytes(whole.replace(name, b"U\x05epoch"))
    assert read_tensors(path)["epoch"] == 3
    path.write_bytes(whole.replace(name, b"U\x05epo\xff\xfe"))
    with pytest.raises(CheckpointError, match="Python 2 wrote it with strings that are no text"):
        read_tensors(path)
