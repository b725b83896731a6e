"""What is wrong with a backbone is said when the study is read."""

from pathlib import Path

import pytest
import yaml

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


ON_DISK = yaml.safe_load((Path(__file__).parents[1] / "workflow/on_disk.yaml").read_text())
HALF = (0.5, 0.5, 0.5)


def on_disk(backbone, data, **changes):
    """The study of images on disk, with crops of 32 and 16 pixels; nothing in it needs a map."""
    content = ON_DISK | {
        "data": data,
        "backbone": backbone,
        "paradigms": {"knn": {"kind": "knn", "label": "k-NN", "protocol": {"k": [5]}}},
        "tables": {},
        "sweep": None,
    }
    return Study.model_validate(content | changes)


def without_normalisation():
    sets = {
        name: {key: value for key, value in item.items() if key != "normalisation"}
        for name, item in ON_DISK["data"]["sets"].items()
    }
    return {"dataset": "on-disk", "sets": sets}


def test_options_as_a_mapping():
    pytest.importorskip("timm")
    options = {"img_size": 32, "dynamic_img_size": True, "patch_size": 8}
    study = on_disk({"name": "timm:test_vit", "options": options}, ON_DISK["data"])
    assert study.backbone == "timm:test_vit?img_size=32&dynamic_img_size=true&patch_size=8"
    assert on_disk(study.backbone, ON_DISK["data"]) == study
    assert on_disk({"name": "timm:test_vit", "options": options}, ON_DISK["data"]) == study


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        # local crops of 16 pixels beside those of 32
        (
            {"img_size": 32, "dynamic_img_size": False, "patch_size": 8},
            "cannot take images of 16 x 16 pixels: .*dynamic_img",
        ),
        (
            {"img_size": 36, "dynamic_img_size": True, "patch_size": 12},
            r"images of 16 x 16 pixels: .*divisible by patch size \(12\)",
        ),
        ({"img": 32}, "timm's test_vit has no option 'img', expected one of img_size"),
    ],
)
def test_transformers_and_crops_that_do_not_fit(backbone, message):
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=message):
        on_disk({"name": "timm:test_vit", "options": backbone}, ON_DISK["data"])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"name": "timm:test_vit", "img_size": 32}, "expected a name, or a .*found the key img_si"),
        ({"options": {}}, "expected a name, or a mapping such as"),
        ({"name": "resnet-small", "options": {"a": 1}}, "backbone 'resnet-small.a=1' does not ex"),
    ],
)
def test_mappings_that_are_none(backbone, message):
    with pytest.raises(ValueError, match=message):
        on_disk(backbone, ON_DISK["data"])


def test_images_are_normalised_as_for_the_models_published_weights():
    pytest.importorskip("timm")
    name = "timm:vit_tiny_patch16_224.augreg_in21k"
    options = {"img_size": 32, "dynamic_img_size": True}
    study = on_disk({"name": name, "options": options}, without_normalisation())
    for found in (study.data.normalisation, study.data.normalisation_of("inat18")):
        assert (found.mean, found.std) == (HALF, HALF)
    study = on_disk("torchvision:resnet18", without_normalisation())
    assert study.data.normalisation.mean == (0.485, 0.456, 0.406)


def test_what_the_study_says_of_normalisation_counts():
    said = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    data = without_normalisation() | {"normalisation": said}
    data["sets"]["voc07"]["normalisation"] = {"mean": [0.7] * 3, "std": [0.8] * 3}
    found = on_disk("torchvision:resnet18", data).data
    assert found.normalisation.mean == found.normalisation_of("images").mean == (0.1, 0.2, 0.3)
    assert found.normalisation_of("voc07").mean == (0.7,) * 3


def test_a_network_of_this_package_has_no_normalisation_of_its_own():
    message = "data.normalisation is missing, and backbone 'resnet-small' has none of its own: give"
    with pytest.raises(ValueError, match=message):
        on_disk("resnet-small", without_normalisation())
