"""Which file stands for a base, as config.yaml says."""

import hashlib
from pathlib import Path

import pytest

from e2mc.checkpoints.checkpoint import CheckpointError
from e2mc.cli import doctor
from e2mc.steps import base_checkpoint
from e2mc.study import Study, load_study

STUDIES = Path(__file__).parents[2] / "studies"
SHIPPED = Path("checkpoints/vicreg-base0.pt")
OWN = {"kind": "own", "path": "mine.pt"}


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch):
    """A folder with one shipped file."""
    monkeypatch.chdir(tmp_path)
    SHIPPED.parent.mkdir()
    SHIPPED.write_bytes(b"weights")


def study_with(seeds=(0,), **base):
    """The default study; its VICReg base is the shipped file, or what is said."""
    content = load_study(str(STUDIES / "fashion.yaml")).model_dump(mode="json")
    digest = hashlib.sha256(b"weights").hexdigest()
    file = {"kind": "shipped", "path": "checkpoints/vicreg-base{seed}.pt", "sha256": {0: digest}}
    content["bases"]["vicreg"] |= {"checkpoint": file, **base}
    content["seeds"]["base"] = seeds
    return Study.model_validate(content)


def chosen(study, policy, base_seed=0):
    """The file, and what was warned of."""
    warnings = []
    return base_checkpoint(study, "vicreg", base_seed, policy, warnings.append), warnings


POLICIES = ("shipped", "shipped-or-retrain", "retrain")


@pytest.mark.parametrize("policy", POLICIES)
def test_trained_one_stands_only_where_config_says_so(policy):
    study = study_with()
    trained = study.retrained_path("vicreg", 0)
    trained.parent.mkdir(parents=True)
    trained.touch()
    assert chosen(study, policy) == (trained if policy == "retrain" else SHIPPED, [])


@pytest.mark.parametrize("policy", POLICIES)
def test_only_one_there_is(policy):
    assert chosen(study_with(pretraining=None), policy) == (SHIPPED, [])
    trained = study_with(checkpoint=None)
    assert chosen(trained, policy) == (trained.retrained_path("vicreg", 0), [])
    converted = study_with(checkpoint=OWN, pretraining=None)
    assert chosen(converted, policy) == (converted.converted_path("vicreg"), [])


def test_converted_one_with_a_recipe():
    study = study_with(checkpoint=OWN)
    assert chosen(study, "shipped") == (study.converted_path("vicreg"), [])
    assert chosen(study, "retrain") == (study.retrained_path("vicreg", 0), [])


def remove():
    SHIPPED.unlink()
    return "is missing: restore it"


def change():
    SHIPPED.write_bytes(b"other weights")
    return "has SHA-256 .*, the study names .*: restore it"


@pytest.mark.parametrize("spoil", [remove, change])
def test_shipped_file_that_is_not_as_it_should_be(spoil):
    study, message = study_with(), spoil()
    with pytest.raises(CheckpointError, match=f"{message}.*, or set base_checkpoints: shipped-or"):
        chosen(study, "shipped")
    path, warnings = chosen(study, "shipped-or-retrain")
    assert path == study.retrained_path("vicreg", 0) and len(warnings) == 1
    assert "It is trained here now, as config.yaml says" in warnings[0]
    assert "or set" not in warnings[0]
    for policy in POLICIES:
        with pytest.raises(CheckpointError, match=message) as error:
            chosen(study_with(pretraining=None), policy)
        assert "or set" not in str(error.value)


def test_seed_without_a_shipped_file():
    study = study_with(seeds=(0, 1))
    message = r"bases\.vicreg\.checkpoint has no file for base seed 1, only for 0: "
    with pytest.raises(CheckpointError, match=message):
        chosen(study, "shipped", base_seed=1)
    path, warnings = chosen(study, "shipped-or-retrain", base_seed=1)
    assert path == study.retrained_path("vicreg", 1) and len(warnings) == 1
    problems = [f for f in doctor._checkpoints(study) if f.subject == "checkpoint vicreg"]
    assert len(problems) == 1 and "has no file for base seed 1" in problems[0].text
