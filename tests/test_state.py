import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from e2mc.state import atomic_path, fingerprint, save_atomically, sha256, write_json, write_text


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB that holds one finished file."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted as root")
    (folder / "finished").write_text("old")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_full_disk_is_one_sentence_and_nothing_is_lost(small_disk, size):
    for write in (write_text, save_atomically):
        content = "x" * size if write is write_text else torch.zeros(size, dtype=torch.uint8)
        with pytest.raises(OSError, match=r"^cannot write .*finished: .*is the disk full\?$"):
            write(content, small_disk / "finished")
        assert [file.name for file in small_disk.iterdir()] == ["finished"]
        assert (small_disk / "finished").read_text() == "old"


def test_folder_without_permission_is_one_sentence(tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    code = "from e2mc.state import write_text; write_text('x', 'closed/result.json')"
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:  # root may write anywhere unless this is taken from it
        if shutil.which("setpriv") is None:
            pytest.skip("as root this needs setpriv")
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "OSError: cannot write closed/result.json: Permission denied; free some space or choose a "
        "folder that you may write to"
    )


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


def test_seeds_from_fingerprints_stay_as_they_are():
    """They decide orders and views, and state.py is in no version of the code."""
    assert fingerprint({"seed": 0, "position": 0}) == "a0172f2ecedf"
    assert fingerprint({"seed": 3, "epoch": 2, "position": 1}) == "3f04a5600f75"


def test_sha256(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
