"""Networks of timm: their widths are measured, their options and sizes checked."""

import json
import sys

import pytest
import torch

from e2mc.errors import MachineError
from e2mc.models import check_backbone, create_backbone

timm = pytest.importorskip("timm")
DINOV2 = "timm:vit_small_patch14_dinov2.lvd142m"
# families with a layer after the pooling, and others; small members
WIDTHS = {
    "lcnet_035": 1280,
    "mobilenetv3_small_050": 1024,
    "mobilenetv4_conv_small_035": 1280,
    "ghostnet_050": 1280,
    "repghostnet_050": 1280,
    "hgnetv2_b0": 2048,
    "efficientvit_b0": 1280,
    "fasternet_t0": 1280,
    "test_mambaout": 256,
    "resnet10t": 512,
    "test_convnext": 64,
    "test_vit": 64,
    "pit_ti_224": 256,
    "levit_128s": 384,
}


@pytest.mark.parametrize("name", WIDTHS)
def test_features_have_the_width_that_is_said(name):
    torch.manual_seed(0)
    backbone = create_backbone(f"timm:{name}")
    assert backbone.feature_dim == WIDTHS[name]
    _, _, size = backbone.published_input()
    with torch.no_grad():
        assert backbone.eval()(torch.randn(2, 3, size, size)).shape == (2, WIDTHS[name])


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_a_network_of_every_family(family):
    """The one with the shortest name; nothing is computed."""
    names = sorted(timm.list_models(module=family), key=len)
    if names:
        check_backbone(f"timm:{names[0]}")


def test_measuring_draws_nothing_and_leaves_batch_norm():
    torch.manual_seed(0)
    backbone = create_backbone("timm:lcnet_035")
    after = torch.rand(3)
    assert all(module.training for module in backbone.modules())
    torch.manual_seed(0)
    theirs = timm.create_model("lcnet_035", pretrained=False, num_classes=0)
    assert torch.equal(after, torch.rand(3))
    expected = theirs.state_dict()
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_features_are_those_of_timm():
    ours = create_backbone("timm:resnet18").eval()
    theirs = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    theirs.load_state_dict(ours.network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))
    torch.testing.assert_close(ours(images), ours.feature_map(images).mean(dim=(2, 3)))
    assert ours(images).shape == (2, ours.feature_dim)


def test_a_map_whose_channels_come_last_is_turned():
    backbone = create_backbone("timm:swin_tiny_patch4_window7_224").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = backbone.feature_map(images)
        torch.testing.assert_close(found.mean(dim=(2, 3)), backbone(images))
    assert found.shape == (1, 768, 7, 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_vit", r"timm's test_vit gives no map of features \(N, 64, h, w\): use a convolut"),
        ("lcnet_035", r"\(N, 1280, h, w\): its map has 176 channels, and a layer follows its pool"),
    ],
)
def test_networks_without_a_map_of_their_features(name, message):
    backbone = create_backbone(f"timm:{name}")
    size = backbone.published_input()[2]
    with pytest.raises(ValueError, match=message):
        backbone.eval().feature_map(torch.zeros(1, 3, size, size))
    with pytest.raises(ValueError, match=message):
        check_backbone(f"timm:{name}", [size], [size])


def test_options_of_a_transformer():
    """DINOv2 at 224 pixels with smaller crops, its features the class token or the mean."""
    name = "timm:test_vit?img_size=64&dynamic_img_size=true&global_pool="
    token, mean = create_backbone(name + "token").eval(), create_backbone(name + "avg").eval()
    theirs = timm.create_model(
        "test_vit", num_classes=0, img_size=64, dynamic_img_size=True, global_pool="token"
    )
    theirs.eval().load_state_dict(token.network.state_dict())
    for size in (64, 32):
        images = torch.randn(2, 3, size, size)
        torch.testing.assert_close(token(images), theirs(images))
        assert mean(images).shape == (2, 64)
    check_backbone(DINOV2 + "?img_size=224&dynamic_img_size=true&global_pool=token", [224, 98])


@pytest.mark.parametrize(
    ("options", "sizes", "message"),
    [
        ("", [224], r"of 224 x 224 pixels: Input height \(224\) doesn't .*img_size, dynamic_img_s"),
        ("?img_size=224", [98, 224], r"cannot take images of 98 x 98 pixels: Input height \(98\)"),
        ("?img_size=224&dynamic_img_size=true", [96], r"96 x 96 .*divisible by patch size \(14\)"),
        ("?img_size=224&img=3", [224], "dinov2.lvd142m has no option 'img', expected one of img_s"),
        ("?num_classes=3", [518], "option 'num_classes' cannot be set: the classifier is left out"),
        ("?pretrained=true", [518], "option 'pretrained' cannot be set: the weights are those of"),
        ("?in_chans=1", [518], "option 'in_chans' cannot be set: it follows from the data"),
        ("?global_pool=tokn", [518], "cannot be built with global_pool = 'tokn': .*supported"),
        ("?img_size=large", [518], "cannot be built with img_size = 'large'"),
        ("?global_pool=", [518], r"gives features of shape \('N', 1370, 384\), expected \(N, D\)"),
    ],
)
def test_options_and_sizes_that_do_not_fit(options, sizes, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_backbone(DINOV2 + options, sizes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "timm has no model 'resnet5': see timm.list_models"),
        (
            "resnet50.mine",
            r"timm's resnet50\.mine cannot be built: Invalid pretrained tag",
        ),
        ("timm/resnet18", "timm has no model 'timm/resnet18'"),
        ("resnet18?img_size=64", "timm's resnet18 has no option 'img_size', expected one of"),
    ],
)
def test_names_that_do_not_exist(name, message):
    for make in (create_backbone, check_backbone):
        with pytest.raises(ValueError, match=message):
            make(f"timm:{name}")


def test_greyscale_images():
    check_backbone("timm:resnet18", [28], in_channels=1)
    assert create_backbone("timm:resnet18", 1)(torch.zeros(2, 1, 28, 28)).shape == (2, 512)


def test_timm_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for make in (create_backbone, check_backbone):
        with pytest.raises(ValueError, match="needs timm: install it with"):
            make("timm:resnet26")


class TestHub:
    CONFIG = {"architecture": "resnet10t", "num_classes": 10, "pretrained_cfg": {"mean": [0.5] * 3}}

    @pytest.mark.parametrize("prefix", ["", "timm:"])
    def test_network_is_built_from_its_configuration(self, prefix, monkeypatch, tmp_path):
        config = tmp_path / "config.json"
        config.write_text(json.dumps(self.CONFIG))
        monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *a, **k: str(config))
        name = f"{prefix}hf-hub:someone/birds"
        check_backbone(name, [64])
        assert create_backbone(name).feature_dim == 512

    def test_hub_that_cannot_be_reached(self, monkeypatch):
        asked = []

        def away(*arguments, **options):
            asked.append(arguments)
            raise ConnectionError("Name or service not known\nmany more lines")

        monkeypatch.setattr("timm.models._hub.hf_hub_download", away)
        message = r"cannot be fetched from the hub \(Name or service not known\): check"
        with pytest.raises(MachineError, match=message):
            check_backbone("hf-hub:someone/else", [64])
        assert len(asked) == 1
