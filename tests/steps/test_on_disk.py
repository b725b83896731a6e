"""Training and every evaluation of image files as steps, in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trees

from e2mc import steps
from e2mc.progress import Interrupted
from e2mc.study import BASE_ARM, Run, load_study

RUN = Run("swav", BASE_ARM, 0, None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The study, its data sets' files and a checkpoint, all in one folder."""
    folder = tmp_path_factory.mktemp("on_disk")
    text = (Path(__file__).parents[1] / "workflow/on_disk.yaml").read_text()
    (folder / "lists").mkdir()
    for name, count in (("1percent", 2), ("10percent", 4)):
        path = trees.label_list(folder / f"lists/{name}.txt", 4, count)
        text = text.replace(f"lists/{name}.txt", str(path))
    (folder / "on_disk.yaml").write_text(text)
    study = load_study(str(folder / "on_disk.yaml"))
    folders = {
        "imagenet": trees.imagenet(folder / "imagenet", train=12),
        "inaturalist-2018": trees.inaturalist(folder / "inat"),
        "voc2007": trees.voc(folder / "voc"),
    }
    datasets = {name: folder / f"{name}.pt" for name in study.data.names}
    for name, path in datasets.items():
        steps.index_data(study, name, folders[study.data.sets[name].format], folder, path)
    checkpoint = folder / "checkpoint.pt"
    steps.train(study, RUN, None, datasets["images"], checkpoint, "cpu")
    return study, datasets, checkpoint


def evaluate(prepared, step, names, folder):
    study, datasets, checkpoint = prepared
    outputs = {name: folder / f"{name}.json" for name in names}
    step(study, RUN, checkpoint, datasets, outputs, "cpu")
    return {name: json.loads(path.read_text()) for name, path in outputs.items()}


def test_every_frozen_paradigm(prepared, tmp_path):
    names = ["linear_1", "linear_10", "linear_100", "inat18_top1", "voc07_map"]
    found = evaluate(prepared, steps.evaluate_frozen, names, tmp_path)
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
    ("step", "names"),
    [
        (steps.evaluate_frozen, ["linear_1", "linear_10", "linear_100"]),
        (steps.evaluate_fine_tuned, ["semisup_10"]),
    ],
)
def test_evaluations_that_were_stopped_go_on_exactly(step, names, prepared, tmp_path, monkeypatch):
    whole = evaluate(prepared, step, names, tmp_path / "whole")
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr("e2mc.evaluation.epochs.stop_requested", lambda: next(calls) == 3)
        with pytest.raises(Interrupted):
            evaluate(prepared, step, names, tmp_path / "stopped")
    assert list((tmp_path / "stopped").glob("*.state"))  # it had finished an epoch
    assert scores(evaluate(prepared, step, names, tmp_path / "stopped")) == scores(whole)
    assert not list((tmp_path / "stopped").glob("*.state"))
