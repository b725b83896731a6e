"""Files of one's own."""

import math

import numpy as np
import pytest
import torch
import yaml

from e2mc.checkpoints.inspect import inspect_checkpoint
from e2mc.checkpoints.keys import KeyMap
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


def test_a_method_without_heads_has_none_that_are_fresh(resnet, tmp_path, capsys, own):
    torch.save(resnet.state_dict(), tmp_path / "own.pth")
    made = own(tmp_path / "own.pth", KeyMap(drop=("fc.",)), method="anchor", method_params={})
    assert made.provenance["fresh"] == [] and "created fresh" not in capsys.readouterr().err
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(made.load_backbone()(images), resnet.eval()(images))


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


def saved(path, content):
    torch.save(content, path)
    return path


BACKBONE = KeyMap(drop=("fc.",))


def test_nested_entries_are_named_by_a_path(resnet, tmp_path, own):
    """As VISSL writes; a key that has dots itself is found too."""
    weights = resnet.state_dict()
    content = {"classy_state_dict": {"base_model": {"model": {"trunk": weights, "heads": {}}}}}
    path = saved(tmp_path / "own.pth", content | {"a.b": {"c": weights}, "loss": {"x": 1}})
    expected = own(saved(tmp_path / "flat.pth", weights), BACKBONE).model
    for entry in ("classy_state_dict.base_model.model.trunk", "a.b.c"):
        model = own(path, KeyMap(entry=entry, drop=("fc.",))).model
        assert all(torch.equal(value, expected[key]) for key, value in model.items())
    there = inspect_checkpoint(path)["entries"]
    assert there["classy_state_dict.base_model.model.trunk"] == "tensors"
    for entry in (None, "classy_state_dict", "classy_state_dict.base_model.trunk", "loss.x.y"):
        with pytest.raises(CheckpointError, match=r"tensors under 'a\.b\.c' \(104\), 'classy_st"):
            own(path, KeyMap(entry=entry))


def test_what_is_no_tensor_among_the_weights_is_named_and_can_be_dropped(resnet, tmp_path, own):
    strangers = {"epoch": 3, "note": None, "layer1.extra": np.arange(3)}
    path = saved(tmp_path / "own.pth", {**resnet.state_dict(), **strangers})
    message = r"found epoch \(int\), note \(NoneType\), layer1\.extra \(NumPy array\) among the"
    with pytest.raises(CheckpointError, match=message):
        own(path, BACKBONE)
    own(path, KeyMap(drop=("fc.", *strangers)))


def test_weights_without_counters_of_batch_norm(resnet, tmp_path, own):
    weights = {k: v for k, v in resnet.state_dict().items() if "num_batches" not in k}
    assert len(weights) < len(resnet.state_dict())
    images = torch.randn(2, 3, 64, 64)
    made = own(saved(tmp_path / "own.pth", weights), BACKBONE).load_backbone()
    torch.testing.assert_close(made(images), resnet.eval()(images))


@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "model.", "module._orig_mod.encoder."])
def test_a_prefix_on_all_keys_is_told_with_the_map_to_write(before, resnet, tmp_path, own):
    weights = {before + key: value for key, value in resnet.state_dict().items()}
    path = saved(tmp_path / "own.pth", weights)
    with pytest.raises(CheckpointError) as caught:
        own(path, KeyMap())
    text = str(caught.value)
    assert len(text) < 1000
    written = yaml.safe_load(text[text.index("write keys: ") + len("write keys: ") :])
    assert written == {"prefixes": {before: "backbone."}, "drop": [f"{before}fc."]}
    made = own(path, KeyMap(prefixes=written["prefixes"], drop=tuple(written["drop"])))
    assert made.provenance["fresh"] == ["projector"]


def test_heads_that_are_there_are_in_the_map_to_write(models, tmp_path, own):
    weights = {f"net.{key}": value for key, value in models["vicreg"].state_dict().items()}
    path = saved(tmp_path / "own.pth", weights | {"net.queue": torch.zeros(3)})
    with pytest.raises(CheckpointError) as caught:
        own(path, KeyMap())
    text = str(caught.value)
    written = yaml.safe_load(text[text.index("write keys: ") + len("write keys: ") :])
    prefixes = {"net.backbone.": "backbone.", "net.projector.": "projector."}
    assert written == {"prefixes": prefixes, "drop": ["net.queue"]}
    keys = KeyMap(prefixes=prefixes, drop=("net.queue",))
    assert own(path, keys).provenance["fresh"] == []


def test_weights_of_another_architecture_say_which(tmp_path, own):
    from torchvision import models

    path = saved(tmp_path / "own.pth", models.resnet34(weights=None).state_dict())
    with pytest.raises(CheckpointError, match=r"look like a ResNet-34, expected a ResNet-18") as e:
        own(path, BACKBONE, backbone="torchvision:resnet18")
    assert len(str(e.value)) < 1000 and "write keys" not in str(e.value)
    path = saved(tmp_path / "own.pth", models.resnet50(weights=None).state_dict())
    with pytest.raises(CheckpointError, match=r"look like a ResNet-50, expected a ResNet-18") as e:
        own(path, KeyMap(), backbone="torchvision:resnet18")
    assert len(str(e.value)) < 1000 and "write keys" not in str(e.value)


@pytest.mark.parametrize("writer", ["zip", "legacy", "safetensors"])
def test_values_that_are_not_finite_stop_the_conversion(writer, resnet, tmp_path, own):
    weights = {key: value.clone() for key, value in resnet.state_dict().items()}
    weights["conv1.weight"][0, 0, 0, 0] = math.nan
    weights["bn1.running_var"] *= -1
    path = tmp_path / "own.safetensors"
    if writer == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(CheckpointError, match=r"own\.saf.*: bn1\.running_var has negat.*; conv1"):
        own(path, BACKBONE)
    assert inspect_checkpoint(path)["not finite"] == ["bn1.running_var", "conv1.weight"]
