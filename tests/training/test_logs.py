from __future__ import annotations

import csv
import sys

import pytest
import torch

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.training import loop
from e2mc.training.logs import csv_text, open_loggers
from e2mc.training.loop import pretrain
from e2mc.training.spec import Component, TrainingSpec

SPEC = TrainingSpec(
    backbone="resnet-small",
    method=Component("vicreg", {"expander": [8, 8, 8]}),
    views=(ViewRecipe(12, count=2),),
    normalisation=Normalisation((0.5,), (0.5,)),
    optimizer=OptimizerSpec("sgd", lr=0.01),
    schedule=ScheduleSpec("constant"),
    epochs=3,
    batch_size=16,
)


@pytest.fixture
def images():
    pixels = torch.randint(256, (32, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels.to(torch.uint8), torch.zeros(32, dtype=torch.int64), ("a",))


def scalars(folder):
    """name -> (step, value) pairs of a TensorBoard log."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = reading.EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in log.Scalars(name)]
        for name in log.Tags()["scalars"]
    }


def test_tensorboard_has_every_term_of_the_csv(images, tmp_path):
    pretrain(SPEC, images, tmp_path / "checkpoint.pt", loggers=["tensorboard"])
    rows = list(csv.DictReader((tmp_path / "training.csv").open()))
    found = scalars(tmp_path / "tensorboard")
    assert found.keys() == rows[0].keys() - {"step"}
    for name, points in found.items():
        assert [step for step, _ in points] == [1, 2, 3, 4, 5, 6]
        expected = [float(row[name]) for row in rows]
        assert [value for _, value in points] == pytest.approx(expected, rel=1e-5)


def test_resumed_run_goes_on_in_its_log(images, tmp_path, monkeypatch):
    advance = loop._Training.advance

    def killed_in_step_5(run, views):
        if run.step == 5:
            raise KeyboardInterrupt
        return advance(run, views)

    monkeypatch.setattr(loop._Training, "advance", killed_in_step_5)
    with pytest.raises(KeyboardInterrupt):
        pretrain(SPEC, images, tmp_path / "c.pt", state_every=2, loggers=["tensorboard"])
    monkeypatch.setattr(loop._Training, "advance", advance)
    pretrain(SPEC, images, tmp_path / "c.pt", state_every=2, loggers=["tensorboard"])
    found = scalars(tmp_path / "c-tensorboard")["loss"]
    assert [step for step, _ in found] == [1, 2, 3, 4, 5, 6]
    rows = list(csv.DictReader((tmp_path / "c-training.csv").open()))
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds) and seconds[-1] > 0


def test_a_new_run_replaces_an_old_log(images, tmp_path):
    for _ in range(2):
        pretrain(SPEC, images, tmp_path / "checkpoint.pt", loggers=["tensorboard"])
    assert len(scalars(tmp_path / "tensorboard")["loss"]) == 6


def test_missing_package_is_said_and_does_not_stop_the_run(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    pretrain(SPEC, images, tmp_path / "checkpoint.pt", loggers=["wandb"], what="a run")
    assert "a run: no wandb log, wandb is not installed" in capsys.readouterr().err
    assert (tmp_path / "training.csv").exists()
    pretrain(SPEC, images, tmp_path / "b.pt", loggers=["wandb"], what="a run")
    assert "; b-training.csv will have every term" in capsys.readouterr().err


def test_wandb_gets_every_row_under_one_identity(images, tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, row, step):
            calls.append((step, row["loss"]))

        def finish(self):
            calls.append("finished")

    class Wandb:
        @staticmethod
        def init(**options):
            calls.append((options["id"], options["mode"]))
            return Run()

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    pretrain(SPEC, images, tmp_path / "checkpoint.pt", loggers=["wandb"], what="vicreg e2mc base0")
    assert calls[0] == ("vicreg-e2mc-base0", "offline") and calls[-1] == "finished"
    assert [step for step, _ in calls[1:-1]] == [1, 2, 3, 4, 5, 6]


def test_an_unknown_logger_is_named(tmp_path):
    opened = open_loggers(["mlflow"], tmp_path / "a.pt", what="a run", done=0, spec={})
    with pytest.raises(ValueError, match="logger 'mlflow' does not exist, expected one of"), opened:
        pass


def test_csv_leaves_what_a_row_lacks_empty():
    assert csv_text([{"step": 1, "a": 0.5}, {"step": 2, "b": 1 / 3}]) == (
        "step,a,b\n1,0.5,\n2,,0.3333333\n"
    )
