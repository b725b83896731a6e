import dataclasses
import math
import pickle

import pytest
import torch

from e2mc.checkpoints import weights
from e2mc.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
)
from e2mc.methods import create_method
from e2mc.models import create_backbone


def checkpoint_of(backbone):
    model = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    return Checkpoint("resnet-small", 1, "vicreg", {"expander": [8]}, model, epochs=4)


def test_load_method_needs_the_heads_and_load_backbone_does_not(tmp_path):
    torch.manual_seed(0)
    backbone = create_backbone("resnet-small", 1)
    method = create_method("vicreg", backbone, expander=[8])
    whole = Checkpoint("resnet-small", 1, "vicreg", {"expander": [8]}, method.state_dict(), 4)
    whole.save(tmp_path / "whole.pt")
    loaded = load_checkpoint(tmp_path / "whole.pt")
    expected = method.state_dict()
    for key, value in loaded.load_method().state_dict().items():
        assert torch.equal(value, expected[key]), key
    checkpoint_of(backbone).save(tmp_path / "part.pt")
    part = load_checkpoint(tmp_path / "part.pt")
    part.load_backbone()
    with pytest.raises(CheckpointError, match=r"method vicreg, read from .*part\.pt .*is missing"):
        part.load_method()


def test_values_that_are_not_finite_are_found_where_they_are_loaded(tmp_path):
    method = create_method("vicreg", create_backbone("resnet-small", 1), expander=[8])
    model = {key: value.clone() for key, value in method.state_dict().items()}
    model["projector.0.weight"][0, 0] = math.nan
    made = Checkpoint("resnet-small", 1, "vicreg", {"expander": [8]}, model, 4)
    made.save(tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt")
    loaded.load_backbone()  # the heads stay in the file
    with pytest.raises(CheckpointError, match=r"x\.pt .*projector\.0\.weight has 1 values that"):
        loaded.load_method()
    model["backbone.stem.0.weight"][0] = math.inf
    made.save(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt .*stem\.0\.weight has 9 values that are NaN"):
        load_checkpoint(tmp_path / "x.pt").load_backbone()


def test_the_backbone_alone_is_read_from_the_file(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(weights, "_fault", lambda key, *rest: checked.append(key))
    made = checkpoint_of(create_backbone("resnet-small", 1))
    made.model["projector.0.weight"] = torch.zeros(8, 128)
    made.save(tmp_path / "x.pt")
    load_checkpoint(tmp_path / "x.pt").load_backbone()
    assert checked and not any("projector" in key for key in checked)


def test_optimizer_state_is_checked_when_it_is_asked_for():
    made = checkpoint_of(create_backbone("resnet-small", 1))
    with pytest.raises(CheckpointError, match="holds no optimizer state"):
        made.optimizer_state()
    state = {"state": {0: {"momentum_buffer": torch.zeros(3)}, 1: {"step": 2}}, "param_groups": []}
    assert dataclasses.replace(made, optimizer=state).optimizer_state() is state
    state["state"][0]["momentum_buffer"][1] = math.nan
    with pytest.raises(CheckpointError, match="momentum_buffer of parameter 0; unset restore_opt"):
        dataclasses.replace(made, optimizer=state).optimizer_state()


def test_the_place_of_a_file_is_not_saved(tmp_path):
    made = checkpoint_of(create_backbone("resnet-small", 1))
    made.save(tmp_path / "a.pt")
    load_checkpoint(tmp_path / "a.pt").save(tmp_path / "b.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model is a NoneType, expected a dictionary of tensors"),
        ({"model": {"a": 1}}, "model: a is a int, expected a tensor"),
        ({"heads": 1}, "heads is unknown"),
        ({"epochs": ...}, "epochs is missing"),
    ],
)
def test_content_that_is_not_as_it_was_written(change, message, tmp_path):
    checkpoint_of(create_backbone("resnet-small", 1)).save(tmp_path / "x.pt")
    content = torch.load(tmp_path / "x.pt") | change
    torch.save({key: v for key, v in content.items() if v is not ...}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x\.pt is not as this package writes.*{message}"):
        load_checkpoint(tmp_path / "x.pt")


def test_round_trip(tmp_path):
    backbone = create_backbone("resnet-small", 1).eval()
    checkpoint_of(backbone).save(tmp_path / "model.pt")
    loaded = load_checkpoint(tmp_path / "model.pt")
    images = torch.randn(3, 1, 28, 28)
    assert loaded.epochs == 4
    torch.testing.assert_close(loaded.load_backbone()(images), backbone(images))


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
