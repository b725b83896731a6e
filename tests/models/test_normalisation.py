import pytest

from e2mc.models import model_normalisation

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:resnet18", (*IMAGENET, 224)),
        ("torchvision:inception_v3", (*IMAGENET, 299)),
        ("timm:resnet50.a1_in1k", (*IMAGENET, 224)),
        ("timm:vit_base_patch16_224.augreg_in21k", (*HALF, 224)),
        ("timm:vit_small_patch14_dinov2.lvd142m?img_size=224", (*IMAGENET, 518)),
        ("resnet50", None),
        ("resnet-small", None),
    ],
)
def test_images_are_prepared_as_the_library_says(name, expected):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    assert model_normalisation(name) == expected


@pytest.mark.parametrize("name", ["torchvision:resnet5", "timm:resnet5", "resnet5"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="resnet5"):
        model_normalisation(name)
