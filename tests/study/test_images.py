"""What a study's images cannot serve is said when the study is read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from e2mc.reporting import made, parts
from e2mc.study import Study, load_study

REPOSITORY = Path(__file__).parents[2]
ON_DISK = yaml.safe_load((REPOSITORY / "tests/workflow/on_disk.yaml").read_text())


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def changed(content, *changes):
    """A study in which keys, given with dots, have other values."""
    content = json.loads(json.dumps(content))
    for key, value in changes:
        *path, last = key.split(".")
        part = content
        for name in path:
            part = part[name]
        part[last] = value
    return Study.model_validate(content)


def fashion(*changes):
    return changed(load_study("fashion").model_dump(mode="json"), *changes)


def on_disk(*changes):
    return changed(ON_DISK, *changes)


SAID_ON_DISK = [
    ("bases.swav.continued.images", 49, "continued.images: 49 images are wanted, there are 48"),
    ("bases.swav.continued.batch_size", 64, "48 images do not fill one batch of 64: lower"),
    ("bases.swav.pretraining.batch_size", 64, "swav.pretraining: 48 images do not fill one batch"),
    ("arms.e2mc.batch_size", 64, "continued (arm e2mc): 48 images do not fill one batch of 64"),
    ("data.sets.images.validation", 48, "validation: 48 of 48 training images would be held"),
    ("data.sets.voc07.validation", 8, "several classes each (voc2007) cannot be held out"),
    ("data.sets.images.lists.1percent.count", 49, "lists.1percent.count: 49 of 48"),
    ("paradigms.voc07_map.protocol.folds", 13, "protocol.folds: 13 folds need .* 26 in all"),
    ("paradigms.voc07_map.dataset", "images", "voc07_map.dataset: .*one label each, svm learns"),
    ("paradigms.inat18_top1.dataset", "voc07", "inat18_top1.dataset: .*several labels each"),
    ("paradigms.inat18_top1.fraction", 0.2, "inat18_top1.fraction: 0.2 of 20 images are 4, fewer"),
]


@pytest.mark.parametrize(("key", "value", "message"), SAID_ON_DISK)
def test_images_on_disk(key, value, message):
    pattern = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=pattern):
        on_disk((key, value))


def test_one_image_in_the_last_batch_cannot_be_normalised():
    recipe = ON_DISK["bases"]["swav"]["continued"]
    changes = ("bases.swav.continued", recipe | {"batch_size": 47, "drop_last": False})
    with pytest.raises(ValueError, match="the smallest part of a batch has 1 image"):
        on_disk(changes)
    on_disk(("bases.swav.continued", recipe | {"batch_size": 46, "drop_last": False}))


def test_a_list_of_one_image_cannot_be_fine_tuned_on():
    with pytest.raises(ValueError, match="semisup_10.label_list: 1 image has a label"):
        on_disk(("data.sets.images.lists.10percent.count", 1))


SAID_OF_FASHION = [
    (("data.train", 59_000), "Fashion-MNIST has 60000 to train on: lower one of them"),
    (("data.validation", 60_000), "Fashion-MNIST has 60000 to train on"),
    (("data.outfits", [800, 100, 10_001]), "outfits: 10001 cannot be composed of 10000 garments"),
    (("data.outfits", [0, 100, 100]), "outfits: 0 cannot be composed"),
    (("paradigms.linear_1.fraction", 0.0001), "linear_1.fraction: 0.0001 of 55,000 images are 6"),
    (
        ("paradigms.linear_1.labels_per_class", 4),
        "found fraction 0.01 and labels_per_class 4: leave",
    ),
    (
        ("paradigms.linear_100.labels_per_class", 6000),
        "linear_100.labels_per_class: 6000 of each of 10 classes are 60,000, more than the 55,000",
    ),
    (("paradigms.linear_1.dataset", "outfits"), "linear_1.dataset: .*several labels"),
    (("bases.vicreg.continued.images", 60_000), "60000 images are wanted, there are 55000"),
]


@pytest.mark.parametrize(("change", "message"), SAID_OF_FASHION)
def test_fashion_mnist(change, message):
    with pytest.raises(ValueError, match=message):
        fashion(change)


def test_bases_that_are_not_shown_need_no_images():
    """The smoke study inherits four bases, and has the images of two."""
    smoke = load_study("smoke")
    assert smoke.bases["swav_short"].continued.images > smoke.data.training_count


def test_what_is_left_out_is_said(tmp_path):
    study = on_disk()
    [(name, sentence)] = study.left_out.items()
    assert name == "separability"
    assert sentence == (
        "study on-disk leaves separability out: random labelings of 128 dimensions take 320 test "
        "images, images has 12"
    )
    assert study.evaluation_jobs()["measure"] == ("embeddings",)
    assert parts(study)["separability"].lacking(study) == sentence
    assert "separability" not in made(study) and {"spectrum", "embeddings"} <= made(study).keys()
    read = {path.stem for part in made(study).values() for path in part.inputs(study)}
    assert "separability" not in read and "embeddings" in read


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([("data.sets.images.test", 320)], None),
        ([("data.sets.images.test", 319)], "take 320 test images, images has 319"),
        (
            [("data.sets.images.test", 400), ("data.sets.images.classes", 400)],
            "than the 400 classes",
        ),
    ],
)
def test_when_separability_is_left_out(changes, sentence):
    found = on_disk(*changes).left_out.get("separability")
    assert found is None if sentence is None else re.search(sentence, found)


def test_narrow_features_need_fewer_images(monkeypatch):
    monkeypatch.setattr("e2mc.study.study.feature_dim", lambda name, channels: 24)
    assert on_disk(("data.sets.images.test", 60)).left_out == {}
    assert (
        "of 24 dimensions take 60"
        in on_disk(("data.sets.images.test", 59)).left_out["separability"]
    )


def test_nothing_is_left_out_of_the_studies_that_come_along():
    for path in (REPOSITORY / "studies").glob("*.yaml"):
        assert load_study(path.stem).left_out == {}


def unlabelled(*changes):
    images = ON_DISK["data"]["sets"]["images"] | {"format": "unlabelled", "classes": 1, "lists": {}}
    without = [("data.sets", {"images": images}), ("tables", {}), ("sweep", None)]
    return on_disk(*without, ("paradigms", {}), *changes)


def test_images_without_labels_are_measured_alone():
    study = unlabelled()
    assert study.left_out == {
        "separability": "study on-disk leaves separability out: its images have no labels"
    }
    assert study.evaluation_jobs()["measure"] == ("embeddings",)
    assert {"embeddings", "spectrum"} <= made(study).keys()
    assert "table1" not in made(study)
    counts = study.data.counts("images")
    assert (counts.classes, counts.train, counts.test) == (1, 48, 12)


@pytest.mark.parametrize("kind", ["linear_1", "semisup_10", "voc07_map"])
def test_what_needs_labels_is_refused_without_any(kind):
    paradigm = ON_DISK["paradigms"][kind] | {"dataset": "images"}
    paradigm.pop("label_list", None)
    sentence = rf"paradigms\.{kind}\.dataset: the images of images have no labels, which kind"
    with pytest.raises(ValueError, match=sentence):
        unlabelled((f"paradigms.{kind}", paradigm))


@pytest.mark.parametrize(
    ("format", "classes", "sentence"),
    [("imagenet", 1, "format imagenet has 2 or more"), ("unlabelled", 2, "has 1, as there are no")],
)
def test_classes_are_of_labels(format, classes, sentence):
    with pytest.raises(ValueError, match=rf"classes: .*{sentence}.*, found {classes}"):
        on_disk(("data.sets.images.format", format), ("data.sets.images.classes", classes))


def test_measurements_that_are_not_wanted():
    study = on_disk(("data.sets.images.test", 400), ("measurements", ["embeddings"]))
    assert study.evaluation_jobs()["measure"] == ("embeddings",)
    assert "separability" not in made(study)


def test_one_job_scores_and_measures():
    jobs = on_disk(("one_job", True)).evaluation_jobs()
    frozen = [name for name, item in ON_DISK["paradigms"].items() if item["kind"] != "finetune"]
    assert jobs["evaluate_frozen"] == (*frozen, "embeddings")
    assert jobs.keys() == {"evaluate_frozen", "evaluate_fine_tuned", "measure_information"}
    assert unlabelled(("one_job", True)).evaluation_jobs()["evaluate_frozen"] == ("embeddings",)
