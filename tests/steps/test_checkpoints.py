"""Which file stands for a base, as config.yaml says; and files that are fetched and converted."""

import hashlib
from pathlib import Path

import pytest
import torch
import yaml

from e2mc.checkpoints.checkpoint import CheckpointError, load_checkpoint
from e2mc.cli import doctor
from e2mc.errors import InputError
from e2mc.models import create_backbone
from e2mc.steps.checkpoints import base_checkpoint, conversion_task, download_task
from e2mc.steps.decides import conversion_values
from e2mc.study import BASE_ARM, Run, Study, load_study
from e2mc.task import plain

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


def trained_path(study, base_seed=0):
    return study.trained_path(Run("vicreg", BASE_ARM, base_seed, None))


POLICIES = ("shipped", "shipped-or-retrain", "retrain")


@pytest.mark.parametrize("policy", POLICIES)
def test_trained_one_stands_only_where_config_says_so(policy):
    study = study_with()
    trained = trained_path(study)
    trained.parent.mkdir(parents=True)
    trained.touch()
    assert chosen(study, policy) == (trained if policy == "retrain" else SHIPPED, [])


@pytest.mark.parametrize("policy", POLICIES)
def test_only_one_there_is(policy):
    assert chosen(study_with(pretraining=None), policy) == (SHIPPED, [])
    trained = study_with(checkpoint=None)
    assert chosen(trained, policy) == (trained_path(trained), [])
    converted = study_with(checkpoint=OWN, pretraining=None)
    assert chosen(converted, policy) == (converted.converted_path("vicreg"), [])


def test_converted_one_with_a_recipe():
    study = study_with(checkpoint=OWN)
    assert chosen(study, "shipped") == (study.converted_path("vicreg"), [])
    assert chosen(study, "retrain") == (trained_path(study), [])


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
    assert path == trained_path(study) and len(warnings) == 1
    assert "It is trained here now, as config.yaml says" in warnings[0]
    assert "or set" not in warnings[0]
    for policy in POLICIES:
        with pytest.raises(CheckpointError, match=message) as error:
            chosen(study_with(pretraining=None), policy)
        assert "or set" not in str(error.value)


@pytest.mark.parametrize("policy", POLICIES)
def test_seed_without_a_shipped_file_is_trained(policy):
    study = study_with(seeds=(0, 1))
    assert chosen(study, policy, base_seed=1) == (trained_path(study, 1), [])
    assert not [f for f in doctor._checkpoints(study) if f.subject == "checkpoint vicreg"]


def test_seed_without_a_shipped_file_and_without_a_recipe():
    study = study_with(seeds=(0, 1), pretraining=None)
    message = r"bases\.vicreg\.checkpoint has no file for base seed 1, only for 0: "
    for policy in POLICIES:
        with pytest.raises(CheckpointError, match=message):
            chosen(study, policy, base_seed=1)
    problems = [f for f in doctor._checkpoints(study) if f.subject == "checkpoint vicreg"]
    assert len(problems) == 1 and "has no file for base seed 1" in problems[0].text


# --- files of other formats ---


RELEASED = {"kind": "released", "format": "vicreg", "epochs": 100}


def test_download_is_decided_by_its_address_and_hash():
    study = study_with(checkpoint=RELEASED | {"url": "https://example.org/a.pth"})
    task = download_task(study, "vicreg")
    assert task.decides == {"url": "https://example.org/a.pth"}
    # where a file comes from makes no difference where it is known by its hash
    known = RELEASED | {"url": "https://example.org/b.pth", "sha256": "0" * 64}
    assert download_task(study_with(checkpoint=known), "vicreg").decides == {"sha256": "0" * 64}
    assert task.output("original") == study.download_path("vicreg")
    assert task.inputs == {} and task.code == {}  # whatever fetches it, it is checked
    with pytest.raises(InputError, match="base 'simsiam' of study fashion is no released"):
        download_task(study, "simsiam")


def test_conversion_reads_what_was_downloaded_or_the_file_that_is_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/a/user")
    released = study_with(checkpoint=RELEASED | {"url": "https://example.org/a.pth"})
    assert conversion_task(released, "vicreg").input("original") == released.download_path("vicreg")
    own = conversion_task(study_with(checkpoint=OWN | {"path": "~/mine.pt"}), "vicreg")
    assert own.inputs == {"original": "/home/of/a/user/mine.pt"}
    with pytest.raises(InputError, match="base 'simsiam' of study fashion needs no conversion"):
        conversion_task(released, "simsiam")


@pytest.fixture
def own_study():
    """A study in a file, whose VICReg base comes from a backbone of one's own."""
    torch.save(create_backbone("resnet-small", 1).state_dict(), "mine.pt")
    path = Path("own.yaml")
    content = load_study(str(STUDIES / "fashion.yaml")).model_dump(mode="json")
    content["bases"]["vicreg"] |= {"checkpoint": OWN | {"epochs": 7}, "pretraining": None}
    path.write_text(yaml.safe_dump(content))
    return load_study(str(path))


def test_converted_file_says_what_decided_it(own_study):
    task = conversion_task(own_study, "vicreg")
    task.perform()
    made = load_checkpoint(task.output("checkpoint"))
    assert (made.method, made.epochs) == ("vicreg", 7)
    assert made.made_with == plain(conversion_values(own_study, "vicreg"))
    assert made.provenance["code"] == task.code


def test_study_that_changed_since_the_conversion_was_planned(own_study):
    task = conversion_task(own_study, "vicreg")
    text = Path("own.yaml").read_text()
    Path("own.yaml").write_text(text.replace("epochs: 7", "epochs: 8"))
    with pytest.raises(InputError, match=r"planned there has changed: checkpoint\.epochs 7 → 8"):
        task.perform()
    assert not task.output("checkpoint").exists()
