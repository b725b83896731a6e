"""Files in the released formats, written by the official classes, read here."""

import official
import pytest
import torch

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.checkpoints.inspect import inspect_checkpoint
from e2mc.checkpoints.reading import CheckpointError, read_tensors
from e2mc.checkpoints.released import convert_released
from e2mc.methods import create_method
from e2mc.models import create_backbone


def built(checkpoint):
    backbone = create_backbone(checkpoint.backbone, checkpoint.in_channels)
    method = create_method(checkpoint.method, backbone, **checkpoint.method_params)
    method.load_state_dict(checkpoint.model)
    return method.eval()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(("name", "epochs"), [("vicreg", None), ("swav", 400), ("simsiam", None)])
def test_the_converted_model_computes_what_the_official_one_does(
    name, epochs, zipped, save, models, tmp_path, convert
):
    path = save(name, _use_new_zipfile_serialization=zipped)
    checkpoint = convert(path, name, epochs)
    assert checkpoint.epochs == {"vicreg": 1000, "swav": 400, "simsiam": 100}[name]
    checkpoint.save(tmp_path / "converted.pt")
    method = built(load_checkpoint(tmp_path / "converted.pt"))
    images, theirs = torch.randn(4, 3, 64, 64), models[name].eval()
    z = method.projector(method.backbone(images))
    if name == "vicreg":
        expected = theirs(images)
    elif name == "swav":
        expected = theirs.projection_head(theirs(images))
        torch.testing.assert_close(method.prototypes(z), theirs.prototypes(expected))
    else:
        prediction, expected = theirs(images)
        torch.testing.assert_close(method.predictor(z), prediction)
    torch.testing.assert_close(z, expected)
    assert expected.std() > 0.01


@pytest.mark.slow
def test_vicregs_file_of_the_real_size(tmp_path):
    """ResNet-50, the expander of 8192 and momentum for all of it: 1.4 GB."""
    official.save_vicreg(tmp_path / "x.pth", official.VICReg(64, (3, 4, 6, 3), (8192,) * 3))
    assert inspect_checkpoint(tmp_path / "x.pth")["parameters"] == 174_552_128
    checkpoint = convert_released(
        tmp_path / "x.pth", "vicreg", backbone="resnet50", method_params={"batch_size": 512}
    )
    assert len(checkpoint.optimizer["state"]) == 168


def test_only_vicregs_optimizer_is_restored(save, convert):
    assert convert(save("vicreg"), "vicreg").optimizer is not None
    assert convert(save("simsiam"), "simsiam").optimizer is None
    assert convert(save("swav"), "swav", 800).optimizer is None


def test_momentum_goes_on_as_in_the_official_optimizer(models, tmp_path, convert):
    """One step of each optimizer from the same file and gradients gives the same weights."""
    from e2mc.optim import OptimizerSpec, create_optimizer

    theirs = models["vicreg"]
    optimizer = official.save_vicreg(tmp_path / "vicreg.pth", theirs)
    checkpoint = convert(tmp_path / "vicreg.pth", "vicreg")
    assert checkpoint.provenance["optimizer_settings"] == {
        "lr": 1.6,
        "weight_decay": 1e-6,
        "momentum": 0.9,
        "eta": 0.001,
    }
    ours = built(checkpoint)
    spec = OptimizerSpec("lars", lr=1.6, weight_decay=1e-6)
    restored = create_optimizer(spec, ours.parameter_groups())
    restored.load_state_dict(checkpoint.optimizer)
    for group in restored.param_groups:
        group.update(lr=1.6, weight_decay=1e-6)
    pairs = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        parameter.grad = torch.randn_like(parameter)
        pairs[name].grad = parameter.grad.clone()
    optimizer.step()
    restored.step()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(pairs[name], parameter, rtol=1e-5, atol=1e-7)


def edited(path, change):
    """The file's weights changed in place."""
    content = read_tensors(path)
    weights = content.get("model") or content.get("state_dict") or content
    change(weights)
    for group in content.get("optimizer", {}).get("param_groups", ()):
        # a function of this package cannot be saved under the name that the official code has
        group |= dict.fromkeys(group.keys() & {"weight_decay_filter", "lars_adaptation_filter"})
    torch.save(content, path)
    return path


def test_every_tensor_that_does_not_fit_is_named_as_in_the_file(save, convert):
    def change(weights):
        del weights["module.encoder.fc.3.weight"], weights["module.encoder.bn1.running_mean"]
        weights["module.encoder_k.conv1.weight"] = torch.zeros(1)
        weights["projector.0.weight"] = torch.zeros(1)
        weights["module.predictor.0.weight"] = torch.zeros(5, 24)

    with pytest.raises(CheckpointError) as caught:
        convert(edited(save("simsiam"), change), "simsiam")
    for part in (
        "simsiam.pth",
        "2 of ",
        "2 unexpected, 1 misshapen",
        "encoder.fc.3.weight is missing",
        "encoder.bn1.running_mean is missing",
        "module.encoder_k.conv1.weight is unexpected",
        "; projector.0.weight is unexpected",
        "predictor.0.weight has shape (5, 24) instead of (12, 24)",
    ):
        assert part in str(caught.value)


def test_missing_prototypes(save, convert):
    path = edited(save("swav"), lambda weights: weights.pop("module.prototypes.weight"))
    with pytest.raises(CheckpointError, match=r"module\.prototypes\.weight is missing"):
        convert(path, "swav", 400)


def test_other_widths_than_the_studys(save, convert):
    with pytest.raises(CheckpointError, match=r"module\.prototypes\.weight has shape \(12, 8\)"):
        convert(save("swav"), "swav", 400, prototypes=13)


def test_swavs_training_checkpoint(save, models, tmp_path, convert):
    """What main_swav.py and E2MC's official code write; only the weights are restored."""
    content = {
        "epoch": 810,
        "state_dict": torch.load(save("swav")),
        "optimizer": torch.optim.SGD(models["swav"].parameters(), 0.6).state_dict(),
        "amp": {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 3}},
    }
    torch.save(content, tmp_path / "x.pth")
    checkpoint = convert(tmp_path / "x.pth", "swav")
    assert checkpoint.epochs == 810 and checkpoint.optimizer is None
    expected = convert(save("swav"), "swav", 800).model
    assert all(torch.equal(checkpoint.model[key], value) for key, value in expected.items())


def test_wrong_format_says_what_is_in_the_file(save, convert):
    with pytest.raises(CheckpointError, match=r"released vicreg checkpoint: expected a dictionary"):
        convert(save("swav"), "vicreg")
    with pytest.raises(CheckpointError, match=r"expected nothing but tensors, found epoch \(int\)"):
        convert(save("vicreg"), "swav", 400)
    with pytest.raises(
        CheckpointError, match=r"module\.encoder\.bn1\.bias is unex.* of simsiam: set"
    ):
        convert(save("simsiam"), "swav", 100)


def test_vicregs_backbone_alone_has_no_optimizer(models, tmp_path, convert):
    torch.save({"model": models["vicreg"].state_dict()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has no optimizer state: use the full checkpoint"):
        convert(tmp_path / "x.pth", "vicreg", 1000)


def test_optimizer_state_that_does_not_fit(save, convert):
    path = save("vicreg")
    content = read_tensors(path)
    content["optimizer"]["state"][0]["mu"] = torch.zeros(2)
    del content["optimizer"]["state"][3]
    content["optimizer"]["param_groups"][0] |= {
        "weight_decay_filter": None,
        "lars_adaptation_filter": None,
    }
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        convert(path, "vicreg")
    assert "backbone.conv1.weight has momentum of shape (2,) instead of" in str(caught.value)
    assert "has no momentum 'mu'" in str(caught.value)


@pytest.mark.parametrize("name", ["vicreg", "swav", "simsiam"])
def test_values_that_are_not_finite_stop_the_conversion(name, save, convert):
    def change(weights):
        key = next(key for key in weights if key.endswith("bn1.running_mean"))
        weights[key] = torch.full_like(weights[key], torch.nan)

    with pytest.raises(CheckpointError, match=rf"{name}\.pth .*bn1\.running_mean has 8 values"):
        convert(edited(save(name), change), name, {"swav": 400}.get(name))


def test_momentum_that_is_not_finite(save, convert):
    path = save("vicreg")
    content = read_tensors(path)
    content["optimizer"]["state"][0]["mu"][0] = torch.inf
    content["optimizer"]["param_groups"][0] |= {
        "weight_decay_filter": None,
        "lars_adaptation_filter": None,
    }
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"mu of parameter backbone\.conv1\.weight; unset"):
        convert(path, "vicreg")


def test_prefix_of_another_wrapper(save, convert):
    def change(weights):
        for key in list(weights):
            weights[f"_orig_mod.{key}"] = weights.pop(key)

    with pytest.raises(CheckpointError, match=r"begin with '_orig_mod\.': take it as .*own") as e:
        convert(edited(save("vicreg"), change), "vicreg")
    assert len(str(e.value)) < 1200


def test_epochs_must_be_known_and_agree(save, convert):
    with pytest.raises(CheckpointError, match="does not say for how many epochs .* give epochs"):
        convert(save("swav"), "swav")
    with pytest.raises(CheckpointError, match="was pre-trained for 100 epochs, the study says 90"):
        convert(save("simsiam"), "simsiam", 90)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_other_names_in_a_pickle_are_refused(zipped, save, tmp_path, capsys, convert):
    path = tmp_path / "x.pth"
    content = {"epoch": 1, "model": {}, "optimizer": Evil()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"x\.pth .* was not loaded: it asks for .*print"):
        convert(path, "vicreg")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_file(zipped, save, convert):
    path = save("swav", _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(CheckpointError, match=r"swav\.pth is damaged"):
        convert(path, "swav", 400)
