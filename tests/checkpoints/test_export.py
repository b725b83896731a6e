"""Checkpoints for timm, torchvision and the official code: strictly loaded there, same features."""

import copy
from dataclasses import replace

import official
import pytest
import torch

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.checkpoints.entries import kept_of
from e2mc.checkpoints.export import export, formats_for
from e2mc.checkpoints.own import KeyMap
from e2mc.checkpoints.reading import read_tensors
from e2mc.methods import create_method
from e2mc.models import create_backbone

ENDINGS = (".safetensors", ".pth")


def checkpoint(backbone, channels=3, **changes):
    """Of VICReg, with statistics of batch norm that are not where they began."""
    torch.manual_seed(0)
    params = {"expander": [8, 8]}
    method = create_method("vicreg", create_backbone(backbone, channels), **params)
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            official.randomise(module)
    made = Checkpoint(backbone, channels, "vicreg", params, kept_of(method), 3)
    return replace(made, **changes)


def emptied(module):
    """A module of the same shape without the weights."""
    fresh = copy.deepcopy(module)
    for value in fresh.state_dict().values():
        value.zero_()
    return fresh


def written(made, folder, ending, format=None):
    pytest.importorskip("safetensors")
    exported = export(made, format)
    path = folder / f"model{ending}"
    exported.write(path)
    return exported, path


def loaded(exported, path):
    """The model that the card's lines make, as somebody would run them."""
    names = {}
    code = exported.how_to_load(path).replace(f'"{path.name}"', repr(str(path)))
    exec(code, names)
    return names["model"].eval()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("backbone", "format", "channels"),
    [
        ("timm:resnet10t", None, 3),
        ("timm:resnet10t", None, 1),
        ("timm:test_vit?img_size=64&global_pool=token", None, 3),
        ("timm:resnet18.a1_in1k", "torchvision", 3),
        ("torchvision:resnet18", None, 3),
        ("torchvision:resnet18", "timm", 3),
        ("torchvision:mobilenet_v3_small", None, 3),
        ("torchvision:convnext_tiny", None, 3),
        ("resnet-small", None, 1),
    ],
)
def test_libraries_load_it_strictly_and_give_the_same_features(
    backbone, format, channels, ending, tmp_path
):
    pytest.importorskip("timm")
    made = checkpoint(backbone, channels)
    exported, path = written(made, tmp_path, ending, format)
    assert exported.format == (
        format or ("e2mc" if ":" not in backbone else backbone.split(":")[0])
    )
    images = torch.randn(2, channels, 64, 64)
    with torch.no_grad():
        expected = made.load_backbone()(images)
        torch.testing.assert_close(loaded(exported, path)(images), expected)
    assert expected.std() > 0.01


@pytest.mark.parametrize("format", ["torchvision", "timm"])
def test_the_papers_resnet50(format, tmp_path):
    pytest.importorskip("timm")
    made = checkpoint("resnet50")
    exported, path = written(made, tmp_path, ".safetensors", format)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = made.load_backbone()(images)
        found = loaded(exported, path).to(memory_format=torch.channels_last)(images)
        torch.testing.assert_close(found, expected)
    assert next(iter(formats_for(made))) == "torchvision"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["vicreg", "swav", "simsiam"])
def test_official_modules_load_it_strictly(name, ending, save, models, convert, tmp_path):
    """Whole methods under the official names, from and to the official class."""
    theirs = models[name].eval()
    made = convert(save(name), name, 400 if name == "swav" else None)
    continued = replace(made, provenance={"start": made.provenance, "made_with": {}})
    exported, path = written(continued, tmp_path, ending)
    assert exported.format == name
    content = read_tensors(path)
    entry = exported.entry if ending == ".pth" else None
    weights = content if entry is None else content[entry]
    if ending == ".pth" and entry is not None:
        assert content["epoch"] == made.epochs
    fresh = emptied(theirs)
    assert all(key.startswith("module.") for key in weights)
    fresh.load_state_dict({k.removeprefix("module."): v for k, v in weights.items()}, strict=True)
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


def test_the_backbone_alone_in_the_official_module(models, convert, save, tmp_path):
    made = replace(convert(save("vicreg"), "vicreg"), backbone="narrow")
    backbone = made.load_backbone()
    theirs = emptied(models["vicreg"].backbone)
    theirs.load_state_dict(export(made, "e2mc").weights, strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), backbone(images))


def test_what_is_exported_comes_back(tmp_path, own):
    made = checkpoint("torchvision:resnet18")
    _, path = written(made, tmp_path, ".safetensors")
    again = own(path, KeyMap(), backbone="torchvision:resnet18", method_params={"expander": [8, 8]})
    for key, value in made.model.items():
        if key.startswith("backbone."):
            assert torch.equal(value, again.model[key]), key


@pytest.mark.parametrize(
    ("backbone", "format", "message"),
    [
        ("resnet-small", "timm", "format of backbone 'resnet-small': 'timm' does not exist, expec"),
        ("timm:resnet10t", "torchvision", "cannot be written for torchvision: torchvision has no"),
        ("timm:efficientnet_b0", "torchvision", "network of that name has other weights, e.g. "),
        ("timm:resnet18?output_stride=8", "torchvision", "'torchvision' does not exist, expected"),
        ("torchvision:resnet18", "vicreg", "'vicreg' does not exist, expected one of torchvision"),
    ],
)
def test_formats_that_a_network_does_not_have(backbone, format, message):
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=message):
        export(checkpoint(backbone), format)


def test_a_network_that_computes_something_else_is_refused(monkeypatch):
    """The same names and shapes are not enough."""
    import torchvision

    made = checkpoint("timm:resnet18")
    build = torchvision.models.get_model

    def other(*arguments, **options):
        model = build(*arguments, **options)
        model.maxpool = torch.nn.Identity()
        return model

    monkeypatch.setattr("torchvision.models.get_model", other)
    with pytest.raises(ValueError, match="network of that name gives other features"):
        export(made, "torchvision")


@pytest.mark.parametrize("name", ["model.bin", "model"])
def test_other_endings_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"a name that ends in \.safetensors or \.pth"):
        export(checkpoint("resnet-small")).write(tmp_path / name)


def test_safetensors_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ValueError, match=r"needs safetensors: .* or choose a name that ends in"):
        export(checkpoint("resnet-small")).write(tmp_path / "model.safetensors")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_one_sentence(ending, monkeypatch, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    full = "No space left on device (os error 28)"

    def write(*_, **__):
        raise (safetensors.SafetensorError if ending == ".safetensors" else RuntimeError)(full)

    monkeypatch.setattr("safetensors.torch.save_file", write)
    monkeypatch.setattr("torch.save", write)
    path = tmp_path / f"model{ending}"
    with pytest.raises(OSError, match=r"^cannot write .*model.*: No space left .*disk full\?$"):
        export(checkpoint("resnet-small")).write(path)
    assert list(tmp_path.iterdir()) == []
