"""Export as a step: names, cards with scores, and the hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from e2mc.checkpoints.checkpoint import Checkpoint, load_checkpoint
from e2mc.checkpoints.entries import kept_of
from e2mc.cli import main
from e2mc.errors import MachineError
from e2mc.methods import create_method
from e2mc.models import create_backbone
from e2mc.state import sha256
from e2mc.steps import evaluation
from e2mc.steps.decides import training_values
from e2mc.steps.export import export_checkpoint, push
from e2mc.study import BASE_ARM, Run, load_study
from e2mc.task import plain

REPOSITORY = Path(__file__).parents[2]
RUN = Run("vicreg", "e2mc", 0, 1)

pytest.importorskip("safetensors")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "studies").symlink_to(REPOSITORY / "studies")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study():
    return load_study("fashion")


@pytest.fixture
def made(study):
    """A continued checkpoint at its place in the study."""
    torch.manual_seed(0)
    params = {"expander": [8, 8]}
    method = create_method("vicreg", create_backbone("resnet-small", 1), **params)
    provenance = {
        "made_with": plain(training_values(study, RUN)),
        "images": {"images": "d" * 64},
        "start": {"own": "a" * 64, "fresh": []},
    }
    model = kept_of(method)
    path = study.trained_path(RUN)
    Checkpoint("resnet-small", 1, "vicreg", params, model, 41, provenance=provenance).save(path)
    return path


@pytest.fixture
def results(study):
    """Linear scores of the base and of the three seeds of an arm."""
    runs = [Run("vicreg", BASE_ARM, 0, None), *(Run("vicreg", "e2mc", 0, s) for s in (0, 1, 2))]
    for value, run in zip((80.0, 81.0, 81.5, 82.0), runs, strict=True):
        score = {"metric": "top1", "features": "raw", "selection": "last", "split": "test"}
        record = {
            "study": "fashion",
            **{"base": run.base, "arm": run.arm, "base_seed": 0},
            "continuation_seed": run.continuation_seed,
            "paradigm": "linear_1",
            "scores": [score | {"probe_seed": 0, "value": value}],
            "decided_by": evaluation.decided_by(study, run, "linear_1"),
            "code": {"evaluation": "0" * 12},
            **{"device": "cpu", "wall_seconds": 1.0, "peak_memory_mb": 1.0},
        }
        path = study.result_path(run, "linear_1")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


def test_card_says_what_was_done_to_which_file_and_what_came_of_it(made, results, study):
    done = export_checkpoint(made, Path("out/better"), study=study)
    assert (done.weights, done.card) == (Path("out/better.safetensors"), Path("out/better.md"))
    card = done.card.read_text()
    for part in (
        f"SHA-256 of `better.safetensors`: `{sha256(done.weights)}`",
        f"1. A given file, SHA-256 `{'a' * 64}`.",
        "2. Continued: method vicreg (expander = [256, 256, 256]) plus e2mc (entropy_weight = 35",
        "1 epochs in batches of 256, adamw with learning rate 0.0002, seed 1, images with digest",
        "41 epochs of pre-training in all",
        'load_file("better.safetensors")',
        "less mean [0.286], over deviation [0.353].",
        "| linear 1 % | 80.00 | 81.50 | +1.50 [+0.26, +2.74] | 3 |",
        "## Licence\n\nTo be filled in.",
    ):
        assert part in card, part


def test_card_without_a_study(made):
    card = export_checkpoint(made, Path("better.pth")).card.read_text()
    assert "No results of a study were at hand." in card
    assert 'torch.load("better.pth", weights_only=True)' in card


def test_a_file_that_is_none_of_the_study(made, study):
    other = made.with_name("other.pt")
    load_checkpoint(made).save(other)
    with pytest.raises(ValueError, match="other.pt is no checkpoint that study fashion trains: na"):
        export_checkpoint(other, Path("better.pth"), study=study)
    assert not Path("better.pth").exists()


@pytest.mark.parametrize("there", ["better.safetensors", "better.md"])
def test_nothing_is_overwritten_without_force(there, made, capsys):
    Path(there).write_text("mine")
    command = ["checkpoint", "export", str(made), "better.safetensors"]
    assert main(command) == 1
    assert (
        f"error: {there} is there already: choose another name, or give" in capsys.readouterr().err
    )
    assert Path(there).read_text() == "mine" and len(list(Path().glob("better*"))) == 1
    assert main([*command, "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sha256"] == sha256(Path("better.safetensors")) and told["format"] == "e2mc"


class Hub:
    """Stands in for the hub; nothing is sent."""

    def __init__(self):
        self.calls = []

    def create_repo(self, repository, exist_ok):
        self.calls.append(repository)

    def upload_file(self, path_or_fileobj, path_in_repo, repo_id):
        assert path_or_fileobj.is_file()
        self.calls.append(path_in_repo)


def test_push(made, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    command = ["checkpoint", "export", str(made), "better", "--push", "someone/better"]
    assert main(command) == 0
    assert hub.calls == ["someone/better", "model.safetensors", "README.md"]


def test_a_hub_that_refuses_is_one_sentence(made, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def refuse():
        raise ConnectionError("no route\nmany lines")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)
    done = export_checkpoint(made, Path("better"))
    with pytest.raises(MachineError, match=r"better\.safetensors was written, but .*\(no route\)"):
        push(done, "someone/better")


def test_the_hubs_package_is_not_installed(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = export_checkpoint(made, Path("better"))
    with pytest.raises(ValueError, match="--push needs huggingface_hub: pip install"):
        push(done, "someone/better")
