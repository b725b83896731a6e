import contextlib
import pickle

import pytest
import torch

from e2mc.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
)
from e2mc.checkpoints.reading import read_tensors
from e2mc.checkpoints.weights import load_strictly
from e2mc.models import create_backbone


def checkpoint_of(backbone):
    model = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    return Checkpoint("resnet-small", 1, "vicreg", {"expander": [8]}, model, epochs=4)


def test_round_trip(tmp_path):
    backbone = create_backbone("resnet-small", 1).eval()
    checkpoint_of(backbone).save(tmp_path / "model.pt")
    loaded = load_checkpoint(tmp_path / "model.pt")
    images = torch.randn(3, 1, 28, 28)
    assert loaded.epochs == 4
    torch.testing.assert_close(loaded.load_backbone()(images), backbone(images))


def test_weights_that_do_not_fit_are_all_named():
    module = torch.nn.Linear(2, 3)
    with pytest.raises(CheckpointError) as caught:
        load_strictly(module, {"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}, "head")
    for part in ("bias is missing", "extra is unexpected", "weight has shape (3, 4) instead of"):
        assert part in str(caught.value)


def test_legacy_files_cut_off_anywhere_are_damaged(tmp_path):
    path = tmp_path / "model.pth"
    content = {"state_dict": {"weight": torch.randn(4, 3)}, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.pth is damaged"):
            read_tensors(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_changed_bytes_of_a_legacy_file_raise_nothing_else(tmp_path):
    path = tmp_path / "model.pth"
    content = {"state_dict": {"weight": torch.randn(4, 3)}, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        with contextlib.suppress(CheckpointError):  # a changed weight is still a weight
            read_tensors(path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", ["missing", "garbage", "truncated", "pickle", "other"])
def test_files_that_cannot_be_used(content, tmp_path, capsys):
    path = tmp_path / "model.pt"
    if content == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif content == "truncated":
        checkpoint_of(create_backbone("resnet-small", 1)).save(path)
        path.write_bytes(path.read_bytes()[:1000])
    elif content == "pickle":
        torch.save({"format": "e2mc-1", "model": Evil()}, path, pickle_module=pickle)
    elif content == "other":
        torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        load_checkpoint(path)
    assert "executed" not in capsys.readouterr().out
