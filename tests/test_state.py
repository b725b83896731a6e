import errno
import json

import pytest
import torch

from e2mc.state import atomic_path, fingerprint, save_atomically, sha256, write_json


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_one_sentence(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(OSError, match=r"cannot write .*result\.json"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"), atomic_path(tmp_path / "file" / "result"):
        pass


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json({"value": float("nan")}, tmp_path / "result.json")
    write_json({"value": 1.5}, tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text()) == {"value": 1.5}


def test_tensors_round_trip(tmp_path):
    save_atomically({"a": torch.arange(3)}, tmp_path / "deep" / "state.pt")
    loaded = torch.load(tmp_path / "deep" / "state.pt", weights_only=True)
    assert torch.equal(loaded["a"], torch.arange(3))


def test_equal_contents_give_equal_files(tmp_path):
    for name in ("one.pt", "two.pt"):
        save_atomically({"a": torch.arange(3)}, tmp_path / name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_fingerprints():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_sha256(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
