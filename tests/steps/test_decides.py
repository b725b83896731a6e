"""What decides a file, in plain values; and files that were made with other ones."""

import dataclasses
from pathlib import Path

import pytest
import torch

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.cli import main
from e2mc.data.images import ImageSet, Splits
from e2mc.errors import InputError
from e2mc.steps.decides import (
    checkpoint_values,
    conversion_values,
    expect_checkpoint_of,
    named_run,
    training_values,
)
from e2mc.steps.evaluation import decided_by, evaluation_values
from e2mc.steps.training import training_task
from e2mc.study import Run, Study, load_study
from e2mc.task import expect_made_for, plain

REPOSITORY = Path(__file__).parents[2]
BASE = Run("vicreg", "base", 0, None)
CONTINUED = Run("vicreg", "e2mc", 0, 1)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def changed(study, *changes):
    """A study in which keys, given with dots, have other values."""
    content = study.model_dump(mode="json")
    for key, value in changes:
        *path, last = key.split(".")
        part = content
        for name in path:
            part = part[name]
        part[last] = value
    return Study.model_validate(content)


def moves(values, study, *changes):
    return plain(values(study)) != plain(values(changed(study, *changes)))


@pytest.fixture
def study():
    return load_study("fashion")


OWN = {"kind": "own", "path": "mine.pt"}


@pytest.fixture
def converted(study):
    """A base from a file of one's own that also has a recipe."""
    return changed(study, ("bases.vicreg.checkpoint", OWN))


def test_values_are_plain_and_named(study):
    values = plain(training_values(study, CONTINUED))
    assert values["criteria"][0]["name"] == "e2mc" and values["epochs"] == 1
    assert values["shipped"] == study.bases["vicreg"].checkpoint.sha256[0]
    assert "shipped" not in training_values(study, BASE)
    assert "steps" not in values  # finished runs of studies without the key stay valid


def test_criterion_decides_its_arm_alone(study):
    change = ("arms.e2mc.base_params", {"vicreg": {"entropy_weight": 0.5}})
    assert moves(lambda s: training_values(s, CONTINUED), study, change)
    assert moves(lambda s: checkpoint_values(s, CONTINUED), study, change)
    assert moves(lambda s: decided_by(s, CONTINUED, "linear_1"), study, change)
    for run in (BASE, Run("vicreg", "continued", 0, 1), Run("vicreg", "mmcr", 0, 1)):
        assert not moves(lambda s, run=run: decided_by(s, run, "linear_1"), study, change)


def test_paradigm_decides_its_own_result_alone(study):
    change = ("paradigms.linear_1.protocol.epochs", 3)
    assert moves(lambda s: decided_by(s, BASE, "linear_1"), study, change)
    assert not moves(lambda s: decided_by(s, BASE, "linear_10"), study, change)
    assert moves(lambda s: evaluation_values(s, BASE, ("linear_1", "linear_10")), study, change)
    assert not moves(lambda s: decided_by(s, BASE, "linear_1"), study, ("title", "another"))
    label = ("paradigms.linear_1.label", "another")
    assert not moves(lambda s: decided_by(s, BASE, "linear_1"), study, label)


def test_instrument_decides_what_a_training_writes_but_not_its_checkpoint():
    er = load_study("er")
    run = Run(er.information.bases[0], "base", 0, None)
    kappa = ("information.instrument.kappa", 2 * er.instrument.kappa)
    assert moves(lambda s: training_task(s, run, None).decides, er, kappa)
    assert not moves(lambda s: training_values(s, run), er, kappa)
    column = er.stability.column
    assert not moves(lambda s: decided_by(s, run, column), er, kappa)
    assert moves(lambda s: decided_by(s, run, "information"), er, kappa)


def test_without_an_instrument_only_the_checkpoint_counts(study):
    assert study.information is None
    task = training_task(study, CONTINUED, Path("base.pt"))
    assert task.decides == plain(training_values(study, CONTINUED))


@pytest.mark.parametrize("measurement", ["embeddings", "information"])
def test_measurements_of_a_converted_base_follow_its_views(converted, measurement):
    change = ("bases.vicreg.normalisation", {"mean": [0.5], "std": [0.25]})
    assert moves(lambda s: decided_by(s, BASE, measurement), converted, change)
    assert not moves(lambda s: decided_by(s, BASE, "linear_1"), converted, change)
    views = converted.model_dump(mode="json")["bases"]["vicreg"]["views"]
    views[0]["blur"] = 0.25
    change = ("bases.vicreg.views", views)
    assert moves(lambda s: decided_by(s, BASE, measurement), converted, change)


def test_recipe_of_a_converted_base_decides_its_training_alone(converted):
    change = ("bases.vicreg.pretraining.epochs", 41)
    assert moves(lambda s: training_values(s, BASE), converted, change)
    assert not moves(lambda s: decided_by(s, BASE, "linear_1"), converted, change)
    assert not moves(lambda s: conversion_values(s, "vicreg"), converted, change)


def test_file_and_keys_decide_a_conversion(converted):
    for change in (
        ("bases.vicreg.checkpoint.head_seed", 1),
        ("bases.vicreg.checkpoint.keys.prefixes", {"net.": ""}),
        ("bases.vicreg.method.params.expander", [8, 8, 8]),
    ):
        assert moves(lambda s: conversion_values(s, "vicreg"), converted, change)
        assert moves(lambda s: checkpoint_values(s, BASE), converted, change)
        assert not moves(lambda s: conversion_values(s, "vicreg"), converted, ("title", "other"))


def test_another_shipped_file_decides_all_that_follows(study):
    change = ("bases.vicreg.checkpoint.sha256", {0: "0" * 64})
    assert moves(lambda s: decided_by(s, BASE, "linear_1"), study, change)
    assert moves(lambda s: training_values(s, CONTINUED), study, change)
    assert not moves(lambda s: training_values(s, BASE), study, change)


def test_shipped_base_without_a_recipe_can_be_scored(study):
    alone = changed(study, ("bases.vicreg.pretraining", None))
    assert decided_by(alone, BASE, "linear_1")["training"] == {
        "shipped": study.bases["vicreg"].checkpoint.sha256[0]
    }


def test_index_follows_the_split():
    paper = load_study("paper")
    change = ("data.split_seed", 1)
    assert moves(lambda s: s.data.decides_evaluation("images"), paper, change)
    assert moves(lambda s: s.data.decides_training(), paper, change)


def test_run_of_a_task_is_found_again(study):
    for run in (BASE, CONTINUED):
        task = training_task(study, run, None)
        assert named_run(task) == (study, run)


def test_file_that_says_nothing_is_taken_as_it_is():
    expect_made_for(Path("shipped.pt"), None, {"epochs": 1})


def test_file_of_other_values_is_named_with_what_differs():
    said = {"epochs": 1, "criteria": [{"name": "e2mc", "params": {"entropy_weight": 0.1}}]}
    expect_made_for(Path("a.pt"), said, dict(reversed(said.items())))
    wanted = {"epochs": 1, "criteria": [{"name": "e2mc", "params": {"entropy_weight": 1.0}}]}
    with pytest.raises(InputError) as caught:
        expect_made_for(Path("a.pt"), said, wanted)
    assert str(caught.value) == (
        "a.pt was made with criteria.0.params.entropy_weight 0.1, the study says 1.0: delete it "
        "and run again"
    )
    more = r"^a\.pt was made with epochs 1, the study says 2 \(1 more values differ\): delete it"
    with pytest.raises(InputError, match=more):
        expect_made_for(Path("a.pt"), said, said | {"epochs": 2, "seed": 3})


# --- files that were made by hand ---


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with the smoke study and its images, where nothing has been trained."""
    monkeypatch.chdir(tmp_path)
    for name in ("studies", "config.yaml", "checkpoints"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    study = load_study("smoke")
    images = torch.randint(256, (1200, 1, 28, 28), dtype=torch.uint8)
    part = ImageSet(images, torch.arange(1200) % 10, tuple("abcdefghij"))
    Splits(part, part, part).save(study.dataset_path("images"))
    return study


def save(study, run, values):
    """A checkpoint of a run, which says that it was made with these values."""
    checkpoint = load_checkpoint(REPOSITORY / f"checkpoints/fashion/{run.base}-base0.pt")
    saved = dataclasses.replace(checkpoint, provenance={} if values is None else values)
    saved.save(study.trained_path(run))
    return study.trained_path(run)


def made_with(study, run):
    return {"made_with": plain(training_values(study, run))}


ARM = ["--study", "smoke", "--base", "vicreg", "--arm", "e2mc"]


def test_evaluate_names_a_checkpoint_of_another_weight(small, capsys):
    run = Run("vicreg", "e2mc", 0, 0)
    weights = {"entropy_weight": 7.0, "covariance_weight": 35.0}
    other = changed(small, ("arms.e2mc.base_params", {"vicreg": weights}))
    path = save(small, run, made_with(other, run))
    assert main(["evaluate", *ARM, "--paradigm", "linear_1"]) == 1
    error = capsys.readouterr().err
    assert error == (
        f"error: {path} was made with criteria.0.params.entropy_weight 7.0, the study says 35.0: "
        "delete it and run again\n"
    )
    assert not small.result_path(run, "linear_1").exists()


def test_continue_names_a_base_of_another_weight(small, capsys):
    other = changed(small, ("bases.vicreg.pretraining.optimizer.weight_decay", 0.5))
    path = save(small, BASE, made_with(other, BASE))
    assert main(["continue", *ARM]) == 1
    error = capsys.readouterr().err
    assert error == (
        f"error: {path} was made with optimizer.weight_decay 0.5, the study says 0.0001: delete it "
        "and run again\n"
    )
    assert not small.trained_path(Run("vicreg", "e2mc", 0, 0)).exists()


@pytest.mark.parametrize("says", ["the same", "nothing"])
def test_file_with_the_same_values_or_none_is_no_difference(small, says):
    for run in (BASE, Run("vicreg", "e2mc", 0, 0)):
        path = save(small, run, made_with(small, run) if says == "the same" else None)
        expect_checkpoint_of(small, run, path, load_checkpoint(path))


def test_converted_file_of_other_keys_is_named(small, tmp_path):
    one = changed(small, ("bases.vicreg.checkpoint", OWN), ("bases.vicreg.pretraining", None),
                  ("information", None), ("stability", None))  # fmt: skip
    checkpoint = load_checkpoint(REPOSITORY / "checkpoints/fashion/vicreg-base0.pt")
    path = one.converted_path("vicreg")
    other = changed(one, ("bases.vicreg.checkpoint.head_seed", 3))
    says = {"made_with": plain(conversion_values(other, "vicreg"))}
    dataclasses.replace(checkpoint, provenance=says).save(path)
    with pytest.raises(
        InputError, match=r"converted\.pt was made with checkpoint\.head_seed 3, the study s"
    ):
        expect_checkpoint_of(one, BASE, path, load_checkpoint(path))
    expect_checkpoint_of(other, BASE, path, load_checkpoint(path))
