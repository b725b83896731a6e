"""Study cifar100, cut small, from generated CIFAR files to its first table, in one process."""

from __future__ import annotations

import json
from pathlib import Path

import published
import pytest
import torch
import yaml

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.errors import DataError
from e2mc.data.images import Splits
from e2mc.reporting import parts
from e2mc.steps.data import check_data, index_task, preparation_task
from e2mc.steps.evaluation import evaluation_task
from e2mc.steps.reporting import part_task
from e2mc.steps.training import training_task
from e2mc.study import BASE_ARM, Config, Run, load_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The study of this folder beside the one that it extends."""
    for path in (
        REPOSITORY / "studies/cifar100.yaml",
        Path(__file__).parent / "cifar100_small.yaml",
    ):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return load_study("cifar100_small.yaml")


def index(study, name, folder):
    task = index_task(study, name, folder)
    task.perform()
    return Splits.load(task.output("index"))


def test_from_published_files_to_a_table(study, monkeypatch):
    published.cifar100(Path("here"), monkeypatch, train=60, test=20)
    config = Config(study="cifar100", data_folders={"torchvision": "here"})
    found = index(study, "images", config.folder(study.data.every["images"]))
    assert [len(p) for p in (found.train, found.validation, found.test)] == [50, 10, 20]
    wanted = [path for path in parts(study)["table1"].inputs(study)]
    for base in study.bases:
        start = None
        for run in (
            Run(base, BASE_ARM, 0, None),
            Run(base, "continued", 0, 0),
            Run(base, "e2mc", 0, 0),
        ):
            task = training_task(study, run, start, device="cpu")
            task.perform()
            start = study.trained_path(Run(base, BASE_ARM, 0, None))
            assert load_checkpoint(task.output("checkpoint")).in_channels == 3
            for names in study.evaluation_jobs().values():
                if set(names) <= study.paradigms.keys():
                    checkpoint = study.trained_path(run)
                    evaluation_task(study, run, names, checkpoint, device="cpu").perform()
    assert all(path.exists() for path in wanted)
    task = part_task(study, "table1")
    task.perform()
    table = study.root / "tables/table1.md"
    assert "not run" not in table.read_text() and "linear 100 %" in table.read_text()
    knn = json.loads(study.result_path(Run("swav", "e2mc", 0, 0), "knn").read_text())
    assert '"name": "CIFAR100"' in json.dumps(knn["decided_by"])
    # shades of colour tell the classes apart
    assert max(score["value"] for score in knn["scores"]) > 40


def test_data_are_counted_by_hand(study, monkeypatch):
    published.cifar100(Path("here"), monkeypatch, train=60, test=20)
    config = Config(study="cifar100", data_folders={"torchvision": "here"})
    assert check_data(study, config) == [
        "images: 5 classes, 50 training, 10 validation and 20 test images in memory"
    ]
    with pytest.raises(DataError, match="are files of yours or torchvision's, .* `e2mc check-data"):
        preparation_task(study, None)


def test_counts_are_checked(study, monkeypatch):
    published.cifar100(Path("here"), monkeypatch, train=55, test=20)
    with pytest.raises(DataError, match=r"here has 55 training images, expected 60 \(CIFAR100\)"):
        index(study, "images", Path("here"))
    assert not study.dataset_path("images").exists()


def changed(**data):
    """The small study with other keys under ``data``."""
    content = yaml.safe_load(Path("cifar100_small.yaml").read_text())
    content["data"] |= data
    Path("changed.yaml").write_text(yaml.safe_dump(content))
    return load_study("changed.yaml")


def test_where_the_files_are_decides_nothing(study, monkeypatch):
    published.cifar100(Path("mine"), monkeypatch, train=60, test=20)
    moved = changed(folder="mine")
    assert moved.data.decides_evaluation("images") == study.data.decides_evaluation("images")
    config = Config(study="x", data_folders={"torchvision": "elsewhere"})
    assert config.folder(moved.data.every["images"]) == Path("mine")
    assert len(check_data(moved, config)) == 1


def test_without_labels_training_sees_more(study, monkeypatch):
    """STL10's unlabelled part is trained on and never scored."""
    published.stl10(Path("here"), monkeypatch, train=60)
    counts = {"classes": 10, "train": 60, "test": 10, "validation": 10, "unlabelled": 30}
    made = changed(name="STL10", view={"size": 96}, **counts)
    assert made.data.training_count == 80 and made.data.counts("images").train == 50
    assert made.data.decides_training()["unlabelled"] == 30
    found = index(made, "images", Path("here"))
    assert len(found.pretraining) == 80 and len(found.train) == 50
    seen = []
    monkeypatch.setattr(
        "e2mc.steps.training.pretrain", lambda spec, images, *_, **__: seen.append(images)
    )
    training_task(made, Run("vicreg", BASE_ARM, 0, None), None, device="cpu").perform()
    assert len(seen[0]) == 80
    assert torch.equal(seen[0].images, found.pretraining.images)


def test_models_are_evaluated_on_other_data_sets(study, monkeypatch):
    published.svhn(Path("here"), monkeypatch)
    other = {"name": "SVHN", "classes": 10, "train": 20, "test": 10, "view": {"size": 32}}
    made = changed(transfer={"svhn": other})
    assert made.data.names == ("images", "svhn")
    assert made.data.normalisation_of("svhn") == made.data.normalisation
    assert made.data.decides_evaluation("svhn")["data"]["name"] == "SVHN"
    assert len(index(made, "svhn", Path("here")).test) == 10
