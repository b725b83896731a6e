"""Networks of torchvision: their widths are measured, their options checked."""

import pytest
import torch
import torchvision.models

from e2mc.models import check_backbone, create_backbone

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
# families without a global average pooling of that name
REFUSED = ("densenet", "maxvit", "mnasnet", "mobilenet_v2", "shufflenet", "squeezenet", "vit_")
# their builders need numbers, so that whole networks are made, of gigabytes
BIG = ("regnet_y_128gf", "regnet_y_32gf", "regnet_y_16gf", "regnet_x_32gf", "regnet_x_16gf")


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name not in BIG])
def test_every_classifier_gives_the_width_that_it_says_or_is_refused(name):
    if name.startswith(REFUSED):
        with pytest.raises(ValueError, match="has no global average pooling: choose"):
            check_backbone(f"torchvision:{name}", [224])
    else:
        check_backbone(f"torchvision:{name}", [224], [224])


WIDTHS = {
    "alexnet": 256,
    "vgg11": 512,
    "vgg11_bn": 512,
    "googlenet": 1024,
    "inception_v3": 2048,
    "mobilenet_v3_small": 576,
    "regnet_y_400mf": 440,
    "resnet18": 512,
    "convnext_tiny": 768,
    "swin_t": 768,
    "efficientnet_b0": 1280,
}


@pytest.mark.parametrize("name", WIDTHS)
def test_features_of_both_modes(name):
    torch.manual_seed(0)
    backbone = create_backbone(f"torchvision:{name}")
    assert all(module.training for module in backbone.modules())
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for mode in (True, False):
            features = backbone.train(mode)(images)
            assert features.shape == (2, backbone.feature_dim) == (2, WIDTHS[name])
        found = backbone.feature_map(images)
    torch.testing.assert_close(found.mean(dim=(2, 3)), features)


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v3_small"])
def test_measuring_draws_nothing_and_leaves_batch_norm(name):
    torch.manual_seed(0)
    backbone = create_backbone(f"torchvision:{name}")
    after = torch.rand(3)
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None)
    assert torch.equal(after, torch.rand(3))
    expected = theirs.state_dict()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_checkpoints_of_googlenet_without_its_auxiliary_heads_fit():
    backbone = create_backbone("torchvision:googlenet")
    theirs = torchvision.models.googlenet(weights=None, init_weights=False).state_dict()
    left = ("aux1.", "aux2.", "fc.")
    backbone.load_state_dict({k: v for k, v in theirs.items() if not k.startswith(left)})


def test_options():
    torch.manual_seed(0)
    backbone = create_backbone("torchvision:resnet18?zero_init_residual=true")
    assert not backbone.layer1[0].bn2.weight.any()
    dilated = "torchvision:resnet50?replace_stride_with_dilation=[false,true,true]"
    assert create_backbone(dilated).feature_map(torch.zeros(1, 3, 64, 64)).shape[-1] == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet18?zero_init=true",
            "resnet18 has no option 'zero_init', expected one of z",
        ),
        ("resnet18?weights=DEFAULT", "option 'weights' cannot be set: the weights are those of"),
        ("inception_v3?aux_logits=true", "option 'aux_logits' cannot be set: classifiers"),
        ("googlenet?transform_input=true", "cannot be set: give the normalisation in the study"),
        ("resnet18?groups=2", "cannot be built with groups = 2: BasicBlock only supports groups=1"),
        ("resnet18?zero_init_residual", "expected options such as .*, found 'zero_init_residual'"),
        ("resnet18?groups=1&groups=1", "option 'groups' is given twice"),
        ("r3d_18", "torchvision has no model 'r3d_18' that classifies images"),
        ("fasterrcnn_resnet50_fpn", "no model 'fasterrcnn_resnet50_fpn' that classifies images"),
    ],
)
def test_options_that_do_not_fit(name, message):
    for make in (create_backbone, check_backbone):
        with pytest.raises(ValueError, match=message) as caught:
            make(f"torchvision:{name}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sizes", "maps", "message"),
    [
        ("alexnet", [224, 32], [], r"cannot take images of 32 x 32 pixels: .*; use larger views"),
        ("inception_v3", [32], [], r"cannot take images of 32 x 32 pixels"),
        ("resnet18", [224], [32], r"gives a map of 1 x 1 for images of 32 x 32 pixels, spatial"),
    ],
)
def test_sizes_are_checked_before_anything_runs(name, sizes, maps, message):
    with pytest.raises(ValueError, match=message):
        check_backbone(f"torchvision:{name}", sizes, maps)
    check_backbone(f"torchvision:{name}", [224], [224])


def test_channels_are_checked():
    with pytest.raises(ValueError, match="takes images of 3 channels, not 1"):
        check_backbone("torchvision:resnet18", [28], in_channels=1)
