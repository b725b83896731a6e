"""Training and every evaluation of image files as steps, in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trees

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.evaluation.epochs import EpochState
from e2mc.progress import Interrupted
from e2mc.steps.data import index_task
from e2mc.steps.evaluation import evaluation_task
from e2mc.steps.training import training_task
from e2mc.study import BASE_ARM, Run, load_study

RUN = Run("swav", BASE_ARM, 0, None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the study, the data sets' files and a checkpoint."""
    folder = tmp_path_factory.mktemp("on_disk")
    text = (Path(__file__).parents[1] / "workflow/on_disk.yaml").read_text()
    (folder / "lists").mkdir()
    for name, count in (("1percent", 2), ("10percent", 4)):
        path = trees.label_list(folder / f"lists/{name}.txt", 4, count)
        text = text.replace(f"lists/{name}.txt", str(path))
    (folder / "on_disk.yaml").write_text(text)
    folders = {
        "imagenet": trees.imagenet(folder / "imagenet", train=12),
        "inaturalist-2018": trees.inaturalist(folder / "inat"),
        "voc2007": trees.voc(folder / "voc"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = load_study("on_disk.yaml")
        for name in study.data.names:
            index_task(study, name, folders[study.data.sets[name].format]).perform()
        training_task(study, RUN, None, device="cpu").perform()
    return folder


@pytest.fixture(autouse=True)
def in_folder(prepared, monkeypatch):
    monkeypatch.chdir(prepared)


def evaluate(names, folder):
    study = load_study("on_disk.yaml")
    task = evaluation_task(study, RUN, names, study.trained_path(RUN), device="cpu").moved(folder)
    task.perform()
    return {name: json.loads(Path(path).read_text()) for name, path in task.outputs.items()}


def test_every_frozen_paradigm(tmp_path):
    names = ["linear_1", "linear_10", "linear_100", "inat18_top1", "voc07_map"]
    found = evaluate(names, tmp_path)
    for name, labels in (("linear_1", 8), ("linear_10", 16), ("linear_100", 48)):
        details = found[name]["details"]
        assert details["trained_together"] == ["linear_1", "linear_10", "linear_100"]
        assert details["raw"]["labels"] == details["whitened"]["labels"] == labels
        assert {s["selection"] for s in found[name]["scores"]} == {"last", "best"}
    # shades of colour tell the classes apart
    [best] = [
        s["value"]
        for s in found["linear_100"]["scores"]
        if (s["features"], s["selection"], s["metric"]) == ("whitened", "best", "top1")
    ]
    assert best > 40
    assert found["inat18_top1"]["details"]["raw"]["labels"] == 20
    assert [s["metric"] for s in found["voc07_map"]["scores"]] == ["map", "map"]
    assert not list(tmp_path.glob("*.state"))


def scores(results):
    return {name: result["scores"] for name, result in results.items()}


@pytest.mark.parametrize(
    "names", [["linear_1", "linear_10", "linear_100"], ["semisup_10"]], ids=["linear", "fine-tuned"]
)
def test_evaluations_that_were_stopped_go_on_exactly(names, tmp_path, monkeypatch):
    whole = evaluate(names, tmp_path / "whole")
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("e2mc.evaluation.epochs.stop_requested", lambda: next(calls) == 3)
        with pytest.raises(Interrupted):
            evaluate(names, tmp_path / "stopped")
    assert list((tmp_path / "stopped").glob("*.state"))  # it had finished an epoch
    assert not list((tmp_path / "stopped").glob("*.json"))
    assert scores(evaluate(names, tmp_path / "stopped")) == scores(whole)
    assert not list((tmp_path / "stopped").glob("*.state"))


def test_state_of_another_checkpoint_is_not_taken_up(tmp_path, monkeypatch):
    """The state says of which values, code and weights it is."""
    names = ["linear_1"]
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("e2mc.evaluation.epochs.stop_requested", lambda: next(calls) == 3)
        with pytest.raises(Interrupted):
            evaluate(names, tmp_path)
    taken_up = []
    load = EpochState.load

    def noted(state):
        taken_up.append(load(state) is not None)
        return load(state)

    monkeypatch.setattr(EpochState, "load", noted)
    study = load_study("on_disk.yaml")
    checkpoint = load_checkpoint(study.trained_path(RUN))
    checkpoint.model["backbone.stem.0.weight"] = 2 * checkpoint.model["backbone.stem.0.weight"]
    checkpoint.save(tmp_path / "other.pt")
    task = evaluation_task(study, RUN, names, tmp_path / "other.pt", device="cpu")
    task.moved(tmp_path).perform()
    assert taken_up == [False]
