"""Training as a task: what decides it, and what the loop is told."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.images import ImageSet, Splits, read_digest
from e2mc.errors import InputError
from e2mc.steps import training
from e2mc.steps.decides import training_values
from e2mc.steps.training import train, training_outputs, training_task
from e2mc.study import Run, Study, load_study
from e2mc.task import plain

REPOSITORY = Path(__file__).parents[2]
BASE = Run("vicreg", "base", 0, None)
ARM = Run("vicreg", "e2mc", 0, 1)


@pytest.fixture(autouse=True)
def in_copy(tmp_path, monkeypatch):
    """A folder with the studies and few images; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    for name in ("studies", "checkpoints"):
        (tmp_path / name).symlink_to(REPOSITORY / name)


def save_images(study, count=20):
    pixels = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    part = ImageSet(pixels, torch.arange(count) % 2, ("a", "b"))
    Splits(part, part, part).save(study.dataset_path("images"))


@pytest.fixture
def told(monkeypatch):
    """What the loop is told when a task is performed."""
    found = []
    monkeypatch.setattr(training, "pretrain", lambda *given, **named: found.append((given, named)))

    def of(task):
        train(task)
        return found[-1]

    return of


def study_with(name="changed", **changes):
    """The default study in a file of its own, with some keys changed."""
    content = yaml.safe_load((REPOSITORY / "studies/fashion.yaml").read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        part = content
        for step in path:
            part = part[step]
        part[last] = value
    Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    study = load_study(f"{name}.yaml")
    save_images(study)
    return study


def test_task_of_a_base_and_of_a_run():
    study = load_study("fashion")
    base = training_task(study, BASE, None, device="cpu", loggers=("wandb",))
    assert base.inputs == {"images": "results/fashion/data/images.pt"}
    assert base.output("checkpoint") == study.trained_path(BASE)
    assert base.output("log") == study.log_path(BASE)
    assert base.arguments["loggers"] == ["wandb"] and base.arguments["device"] == "cpu"
    run = training_task(study, ARM, Path("base.pt"))
    assert run.inputs == base.inputs | {"checkpoint": "base.pt"}
    assert run.decides == plain(training_values(study, ARM))
    # where it runs and where it is logged decide nothing
    assert training_task(study, BASE, None).digest() == base.digest()


def test_instrument_writes_beside_the_checkpoint():
    smoke, fashion = load_study("smoke"), load_study("fashion")
    assert training_outputs(smoke, BASE)["information"] == smoke.information_path(BASE)
    assert training_task(smoke, BASE, None).decides["instrument"]["images"] == 64
    assert "information" not in training_outputs(fashion, BASE)
    assert "instrument" not in training_task(fashion, BASE, None).decides


def test_loop_is_told_what_decides_the_checkpoint(told):
    study = study_with()
    task = training_task(study, BASE, None, device="cpu", loggers=["tensorboard"])
    (spec, images, output), named = told(task)
    assert spec == study.training_spec(BASE) and len(images) == 20
    assert output == study.trained_path(BASE)
    assert named["start"] is None and named["measure"] is None
    assert named["what"] == "vicreg base base0" and named["loggers"] == ["tensorboard"]
    assert named["identity"] == task.digest()
    digest = read_digest(study.dataset_path("images"))
    assert named["made_by"] == {
        "made_with": task.decides,
        "code": task.code,
        "images": {"images": digest},
    }


def test_made_with_leaves_out_the_instrument(told):
    """It decides information.csv, not the checkpoint."""
    study = load_study("smoke")
    save_images(study, 2000)
    task = training_task(study, BASE, None, device="cpu")
    _, named = told(task)
    assert "instrument" in task.decides and named["measure"] is not None
    assert named["made_by"]["made_with"] == plain(training_values(study, BASE))


def test_run_sees_the_same_images_whatever_its_seed(told):
    study = study_with(bases__vicreg__continued__images=256)
    save_images(study, 300)
    shown = []
    for seed in (0, 1):
        run = Run("vicreg", "continued", 0, seed)
        start = Path("checkpoints/fashion/vicreg-base0.pt").resolve()
        (_, images, _), named = told(training_task(study, run, start, device="cpu"))
        assert len(images) == 256 and named["start"].method == "vicreg"
        shown.append(images)
    assert torch.equal(shown[0].labels, shown[1].labels)


def test_base_that_was_made_with_other_values_is_not_gone_on_from(told):
    study = load_study("smoke")
    save_images(study, 2000)
    checkpoint = load_checkpoint(Path("checkpoints/fashion/vicreg-base0.pt"))
    said = plain(training_values(study, BASE)) | {"epochs": 9}
    path = study.trained_path(BASE)
    dataclasses.replace(checkpoint, provenance={"made_with": said}).save(path)
    with pytest.raises(InputError, match="was made with epochs 9, the study says 1: delete it"):
        told(training_task(study, ARM, path, device="cpu"))


def test_state_belongs_to_a_split_and_a_version_of_the_code(told, monkeypatch):
    def identity(seed):
        study = study_with(data__split_seed=seed)
        return told(training_task(study, BASE, None, device="cpu"))[1]["identity"]

    before = identity(0)
    assert identity(0) == before
    assert identity(1) != before
    monkeypatch.setattr(training, "code_of", lambda *parts: {"optim.py": "edited"})
    assert identity(0) != before


def test_study_that_changed_since_the_training_was_planned(told):
    task = training_task(study_with(), BASE, None, device="cpu")
    study_with(bases__vicreg__pretraining__epochs=2)
    with pytest.raises(InputError, match="train of .*checkpoint.pt .* changed: epochs 40 → 2"):
        told(task)


def test_code_that_changed_since_the_training_was_planned(told, monkeypatch):
    task = training_task(study_with(), BASE, None, device="cpu")
    monkeypatch.setattr(training, "code_of", lambda *parts: task.code | {"optim.py": "edited"})
    with pytest.raises(InputError, match=r"changed: the code of optim\.py: run the same again"):
        told(task)


def test_base_without_a_recipe_has_no_training():
    content = load_study("fashion").model_dump(mode="json")
    content["bases"]["vicreg"]["pretraining"] = None
    with pytest.raises(InputError, match=r"bases\.vicreg has no pretraining recipe"):
        training_task(Study.model_validate(content), BASE, None)
