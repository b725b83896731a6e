"""What is wrong with a backbone is said when the study is read."""

from pathlib import Path

import pytest

from e2mc.study import Study, StudyError, load_study

STUDIES = Path(__file__).parents[2] / "studies"


def with_backbone(tmp_path, backbone):
    text = (STUDIES / "fashion.yaml").read_text()
    assert "\nbackbone: resnet-small\n" in text
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("backbone: resnet-small", f'backbone: "{backbone}"'))
    return str(path)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet-large", "backbone 'resnet-large' does not exist, expected one of resnet-small"),
        ("torchvision:resnet18", "takes images of 3 channels, not 1"),
        ("timm:resnet1", "timm has no model 'resnet1'"),
        ("timm:resnet18?stem=3", "timm's resnet18 has no option 'stem', expected one of"),
        ("timm:test_vit", r"cannot take images of \d+ x \d+ pixels: Input height .*img_size"),
        ("timm:test_vit?img_size=28&patch_size=3", "images of 28 x 28 pixels"),
        (
            "timm:test_vit?img_size=28&patch_size=7&dynamic_img_size=true",
            "gives no map of features",  # which the study's SVMs are trained on
        ),
    ],
)
def test_backbones_that_do_not_fit_the_study(backbone, message, tmp_path):
    pytest.importorskip("timm")
    with pytest.raises(StudyError, match=message) as caught:
        load_study(with_backbone(tmp_path, backbone))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "backbone", ["resnet50", "timm:resnet18", "timm:resnet18?zero_init_last=false"]
)
def test_backbones_that_fit(backbone, tmp_path):
    pytest.importorskip("timm")
    assert load_study(with_backbone(tmp_path, backbone)).backbone == backbone


def test_maps_that_spatial_features_need():
    pytest.importorskip("timm")
    content = load_study(str(STUDIES / "fashion.yaml")).model_dump(mode="json")
    protocol = {"epochs": 1, "learning_rates": [0.1]}
    spatial = {"views": {"size": 28}, "spatial": True, "protocol": protocol}
    content["paradigms"]["spatial"] = {"kind": "linear", "label": "2 x 2", **spatial}
    for backbone, message in {
        "timm:lcnet_035": "gives no map of features",
        "timm:resnet18": "gives a map of 1 x 1 for images of 28 x 28 pixels",
    }.items():
        with pytest.raises(ValueError, match=message):
            Study.model_validate(content | {"backbone": backbone})
    Study.model_validate(content | {"backbone": "timm:resnet18?output_stride=8"})


def test_home_in_the_path_of_an_own_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    content = load_study(str(STUDIES / "fashion.yaml")).model_dump(mode="json")
    content["bases"]["vicreg"]["checkpoint"] = {"kind": "own", "path": "~/mine.pt"}
    study = Study.model_validate(content | {"seeds": {"base": [0]}})
    assert study.bases["vicreg"].checkpoint.path == str(tmp_path / "mine.pt")
