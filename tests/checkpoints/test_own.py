"""Files of one's own."""

import pytest
import torch

from e2mc.checkpoints.inspect import inspect_checkpoint
from e2mc.checkpoints.own import KeyMap
from e2mc.checkpoints.reading import CheckpointError


def test_own_backbone_gets_fresh_heads_and_says_so(resnet, tmp_path, capsys, own):
    theirs = resnet
    torch.save({"net": theirs.state_dict(), "epoch": 3}, tmp_path / "own.pth")
    keys = KeyMap(entry="net", drop=("fc.",))
    first, second = own(tmp_path / "own.pth", keys), own(tmp_path / "own.pth", keys)
    said = capsys.readouterr().err
    assert "has no projector: created fresh with seed 0" in said
    assert "left out as the study says: fc.bias, fc.weight" in said
    assert first.provenance["fresh"] == ["projector"] and first.epochs == 90
    assert first.provenance["dropped"] == ["fc.bias", "fc.weight"]
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(first.load_backbone()(images), theirs.eval()(images))
    for key, value in first.model.items():
        assert torch.equal(value, second.model[key]), key
    other = own(tmp_path / "own.pth", keys, seed=1)
    assert not torch.equal(first.model["projector.0.weight"], other.model["projector.0.weight"])


def test_own_prefixes(models, tmp_path, own):
    weights = {
        key.replace("backbone.", "encoder_q."): value
        for key, value in models["vicreg"].state_dict().items()
    }
    torch.save(weights, tmp_path / "own.pth")
    keys = KeyMap(prefixes={"encoder_q.": "backbone.", "projector.": "projector."})
    assert own(tmp_path / "own.pth", keys).provenance["fresh"] == []


def test_own_file_that_does_not_fit(models, tmp_path, own):
    torch.save(models["vicreg"].state_dict(), tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"projector\.0\.weight is unexpected"):
        own(tmp_path / "own.pth", KeyMap(prefixes={"backbone.": "backbone."}))
    with pytest.raises(CheckpointError, match=r"projector\.6\.weight is missing"):
        keys = {"backbone.": "backbone.", "projector.": "projector."}
        own(tmp_path / "own.pth", KeyMap(prefixes=keys, drop=("projector.6",)))
    with pytest.raises(CheckpointError, match=r"a dictionary of tensors under 'net', found"):
        own(tmp_path / "own.pth", KeyMap(entry="net"))
    with pytest.raises(ValueError, match="prefixes is empty"):
        KeyMap(prefixes={})


def test_two_keys_for_one_place(models, tmp_path, own):
    weights = models["vicreg"].backbone.state_dict()
    copies = {f"{side}.{key}": value for side in ("q", "k") for key, value in weights.items()}
    torch.save(copies, tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"q\.\S+ and k\.\S+ would both become backbone\."):
        own(tmp_path / "own.pth", KeyMap(prefixes={"q.": "backbone.", "k.": "backbone."}))


def test_own_file_in_safetensors(resnet, tmp_path, own):
    safetensors = pytest.importorskip("safetensors.torch")
    theirs = resnet
    path = tmp_path / "own.safetensors"
    safetensors.save_file(theirs.state_dict(), path)
    made = own(path, KeyMap(drop=("fc.",)))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(made.load_backbone()(images), theirs.eval()(images))
    assert inspect_checkpoint(path)["tensors"] == len(theirs.state_dict())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"own\.safetensors is damaged"):
        own(path, KeyMap())
    with pytest.raises(CheckpointError, match="does not exist"):
        own(tmp_path / "nowhere.safetensors", KeyMap())


def test_own_network_of_torchvision(tmp_path, own):
    from torchvision import models

    torch.manual_seed(0)
    theirs = models.resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "own.pth")
    made = own(tmp_path / "own.pth", KeyMap(drop=("fc.",)), backbone="torchvision:resnet18")
    images = torch.randn(2, 3, 64, 64)
    theirs.fc = torch.nn.Identity()
    torch.testing.assert_close(made.load_backbone()(images), theirs(images))
