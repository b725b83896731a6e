"""What decides a file changes its identity; what does not leaves it as it is."""

from pathlib import Path

import pytest
from e2mc.identity import (
    conversion_code,
    conversion_identity,
    evaluation_code,
    evaluation_identity,
    reporting_identity,
    training_code,
    training_identity,
    training_outputs_identity,
)

from e2mc.criteria import CRITERIA
from e2mc.criteria.mmcr import MMCR
from e2mc.state import fingerprint
from e2mc.study import Run, Study, load_study

STUDIES = Path(__file__).parents[1] / "studies"
BASE = Run("vicreg", "base", 0, None)
CONTINUED = Run("vicreg", "e2mc", 0, 1)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(STUDIES.parent)


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


def moves(identity, study, *changes):
    return fingerprint(identity(study)) != fingerprint(identity(changed(study, *changes)))


@pytest.fixture
def study():
    return load_study("fashion")


OWN = {"kind": "own", "path": "mine.pt"}


@pytest.fixture
def converted(study):
    """A base from a file of one's own that also has a recipe."""
    return changed(study, ("bases.vicreg.checkpoint", OWN))


def test_instrument_decides_what_a_training_writes_but_not_its_checkpoint():
    er = load_study("er")
    run = Run(er.information.bases[0], "base", 0, None)
    kappa = ("information.instrument.kappa", 2 * er.instrument.kappa)
    assert moves(lambda s: training_outputs_identity(s, run), er, kappa)
    assert not moves(lambda s: training_identity(s, run), er, kappa)
    column = er.stability.column
    assert not moves(lambda s: evaluation_identity(s, run, column), er, kappa)
    assert moves(lambda s: evaluation_identity(s, run, "information"), er, kappa)


def test_without_an_instrument_only_the_checkpoint_counts(study):
    assert study.information is None
    assert training_outputs_identity(study, CONTINUED) == training_identity(study, CONTINUED)


@pytest.mark.parametrize("measurement", ["embeddings", "information"])
def test_measurements_of_a_converted_base_follow_its_views(converted, measurement):
    change = ("bases.vicreg.normalisation", {"mean": [0.5], "std": [0.25]})
    assert moves(lambda s: evaluation_identity(s, BASE, measurement), converted, change)
    assert not moves(lambda s: evaluation_identity(s, BASE, "linear_1"), converted, change)
    views = converted.model_dump(mode="json")["bases"]["vicreg"]["views"]
    views[0]["blur"] = 0.25
    change = ("bases.vicreg.views", views)
    assert moves(lambda s: evaluation_identity(s, BASE, measurement), converted, change)


def test_recipe_of_a_converted_base_decides_its_training_alone(converted):
    change = ("bases.vicreg.pretraining.epochs", 41)
    assert moves(lambda s: training_identity(s, BASE), converted, change)
    assert not moves(lambda s: evaluation_identity(s, BASE, "linear_1"), converted, change)
    assert not moves(lambda s: conversion_identity(s, "vicreg"), converted, change)


def test_another_shipped_file_decides_all_that_follows(study):
    change = ("bases.vicreg.checkpoint.sha256", {0: "0" * 64})
    assert moves(lambda s: evaluation_identity(s, BASE, "linear_1"), study, change)
    assert moves(lambda s: training_identity(s, CONTINUED), study, change)
    assert not moves(lambda s: training_identity(s, BASE), study, change)


def test_shipped_base_without_a_recipe_can_be_scored(study):
    alone = changed(study, ("bases.vicreg.pretraining", None))
    assert evaluation_identity(alone, BASE, "linear_1")["training"] == {
        "shipped": study.bases["vicreg"].checkpoint.sha256[0]
    }


@pytest.mark.parametrize(
    "change",
    [
        ("title", "another"),
        ("reported_epoch", "best"),
        ("arms.e2mc-epochs-3.reference", "continued"),
        ("arms.vcreg-weak.variant_of", "vcreg"),
        ("arms.mmcr.label", "MMCR"),
        ("bases.vicreg.published", None),
        ("bases.vicreg.label", "another"),
        ("bases.vicreg.continued.epochs", 2),
        ("sweep.seeds", [7]),
        ("seeds.continuation", [0]),
        ("separability.arms", ["base"]),
        ("tables.table1.published", None),
        ("convergence.columns", ["linear_1"]),
        ("paradigms.linear_1.features", ["raw"]),
    ],
)
def test_tables_and_figures_follow_the_study(study, change):
    assert moves(reporting_identity, study, change)


def test_tables_and_figures_do_not_follow_what_only_results_tell(study):
    assert not moves(reporting_identity, study, ("arms.mmcr.params", {"weight": 0.5}))
    assert not moves(reporting_identity, study, ("paradigms.linear_1.fraction", 0.02))


def test_tables_and_figures_follow_the_order_of_arms(study):
    content = study.model_dump(mode="json")
    content["arms"] = dict(reversed(content["arms"].items()))
    other = Study.model_validate(content)
    assert fingerprint(reporting_identity(study)) != fingerprint(reporting_identity(other))


def test_stability_follows_its_axes():
    er = load_study("er")
    base = er.stability.batch_size[0]
    size = er.bases[base].pretraining.batch_size
    assert moves(reporting_identity, er, (f"bases.{base}.pretraining.batch_size", 2 * size))


def test_index_follows_the_split():
    paper = load_study("paper")
    assert moves(lambda s: s.data.evaluation_identity("images"), paper, ("data.split_seed", 1))


def test_code_is_that_of_the_method_and_the_criterion(study):
    assert training_code(study, CONTINUED).components == ("methods/vicreg.py", "criteria/e2mc.py")
    assert training_code(study, BASE).components == ("methods/vicreg.py",)
    assert evaluation_code(study, CONTINUED).components == ("methods/vicreg.py",)
    assert conversion_code(study, "simsiam").components == ("methods/simsiam.py",)


def test_criterion_of_another_package_has_a_version(study, monkeypatch):
    class Mine(MMCR):
        """A criterion that lives outside the package."""

    monkeypatch.setitem(CRITERIA, "e2mc", Mine)
    code = training_code(study, CONTINUED)
    assert code.components == ("methods/vicreg.py", __file__)
    assert {"test_identity.py", "criteria/base.py"} <= code.versions().keys()
