"""What a study says of a data set of torchvision is checked when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pages import blocks

from e2mc.study import Study, load_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def cifar100(**data):
    """The study with other keys under ``data``; None leaves one out."""
    content = yaml.safe_load(Path("studies/cifar100.yaml").read_text())
    content["data"] = {k: v for k, v in (content["data"] | data).items() if v is not None}
    return Study.model_validate(content)


SVHN = {"name": "SVHN", "classes": 10, "train": 73257, "test": 26032, "view": {"size": 32}}
GREY = {"mean": [0.13], "std": [0.31]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "CIFAR1000"}, "data set 'CIFAR1000' does not exist, expected one of CIFAR10"),
        ({"name": "ImageNet"}, "torchvision's ImageNet is read by dataset: on-disk with format"),
        ({"name": None}, "name"),
        ({"split": "letters"}, "split: CIFAR100 has no splits to choose from"),
        ({"name": "EMNIST"}, "split of EMNIST None does not exist, expected one of byclass"),
        ({"unlabelled": 100}, "unlabelled: CIFAR100 has no unlabelled images"),
        ({"normalisation": GREY}, "has 1 channels, expected 3: images of CIFAR100 are in colour"),
        ({"name": "MNIST"}, "has 3 channels, expected 1: images of MNIST are grey"),
        ({"normalisation": None}, "backbone 'resnet18-cifar' has none of its own: give mean"),
        ({"validation": 50000}, "50000 of 50000 training images would be held out"),
        ({"transfer": {"images": SVHN}}, "transfer: 'images' is the data set of pre-training"),
        (
            {"transfer": {"digits": SVHN | {"name": "MNIST"}}},
            "transfer.digits: images of MNIST have 1 channels, those of CIFAR100 have 3",
        ),
        (
            {"transfer": {"stl10": SVHN | {"name": "STL10", "unlabelled": 5}}},
            "transfer.stl10.unlabelled: only the images of pre-training can do without labels",
        ),
        (
            {"transfer": {"svhn": SVHN | {"normalisation": GREY}}},
            "transfer.svhn.normalisation has 1 channels, expected 3",
        ),
    ],
)
def test_one_sentence_for_each_fault(data, message):
    with pytest.raises(ValueError, match=message):
        cifar100(**data)


def test_grey_images_of_torchvision():
    study = cifar100(name="MNIST", classes=10, train=60000, normalisation=GREY)
    assert study.data.channels == 1


def test_share_of_images_without_labels_cannot_be_drawn():
    content = yaml.safe_load(Path("studies/cifar100.yaml").read_text())
    content["data"] |= {"name": "STL10", "classes": 10, "train": 5000, "test": 8000}
    content["data"] |= {"validation": 500, "unlabelled": 100_000, "view": {"size": 96}}
    assert Study.model_validate(content).data.training_count == 104_500
    content["bases"]["vicreg"]["continued"]["images"] = 1000
    with pytest.raises(ValueError, match="share of images without labels cannot be drawn by class"):
        Study.model_validate(content)


def test_data_of_the_docs():
    _, data, _ = blocks(REPOSITORY / "docs/own-data.md", "yaml")
    found = cifar100(**{"name": None, **yaml.safe_load(data)["data"]}).data
    assert found.names == ("images", "cifar10") and found.training_count == 104_500


def test_the_key_of_a_fault_is_that_of_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    content = yaml.safe_load(Path("studies/cifar100.yaml").read_text())
    content["data"]["clases"] = content["data"].pop("classes")
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError) as caught:
        load_study(str(path))
    assert "mine.yaml: data.classes: " in str(caught.value)
    assert "unknown key data.clases, did you mean 'classes'" in str(caught.value)


def test_recipe_of_solo_learn():
    """scripts/pretrain/cifar of solo-learn, for CIFAR-100, apart from what the file says."""
    study = load_study("cifar100")
    rates = {name: base.pretraining.optimizer for name, base in study.bases.items()}
    assert {name: (o.name, o.lr, o.weight_decay) for name, o in rates.items()} == {
        "vicreg": ("larc", 0.3, 1e-4),
        "swav": ("larc", 0.6, 1e-6),
        "simsiam": ("sgd", 0.5, 1e-5),
    }
    assert all(base.pretraining.batch_size == 256 for base in study.bases.values())
    assert all(base.pretraining.schedule.warmup_epochs == 10 for base in study.bases.values())
    queue = study.bases["swav"].pretraining.method_params["queue_after"]
    assert queue == 50 * study.data.training_count
    assert study.seeds.base == (0, 1, 2)
