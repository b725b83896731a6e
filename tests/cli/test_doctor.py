import json
import os
from pathlib import Path

import pytest

from e2mc.cli import doctor, main

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_copy(tmp_path, monkeypatch):
    for name in ("studies", "checkpoints"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)


def test_every_subject_has_a_line(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    subjects = [line[2:].split("  ")[0] for line in lines[:-1]]
    assert subjects == [
        "python",
        "processors",
        "memory",
        "disk",
        "gpus",
        "slurm",
        "packages",
        "study",
        "data",
        "checkpoints",
    ]
    assert lines[-1] == "Nothing stands in the way."


def test_json_holds_the_facts(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = {name: f["facts"] for name, f in json.loads(capsys.readouterr().out).items()}
    assert facts["processors"]["usable"] == len(os.sched_getaffinity(0))
    assert facts["memory"]["total"] > facts["memory"]["available"] > 0
    assert facts["packages"]["torch"] and "snakemake" in facts["packages"]
    assert len(facts["checkpoints"]["paths"]) == 4


def test_a_missing_package_is_a_problem(monkeypatch, capsys):
    there = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name == "snakemake" else there(name)
    )
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "! packages    snakemake missing: pip install 'e2mc[workflow]'" in printed
    assert "1 problem, marked with !." in printed


def test_a_changed_checkpoint_and_a_bad_study_are_problems(tmp_path, capsys):
    (tmp_path / "checkpoints").unlink()
    assert main(["doctor"]) == 1
    assert "! checkpoint vicreg" in capsys.readouterr().out
    assert main(["doctor", "--study", "fashoin"]) == 1
    assert "studies/fashoin.yaml does not exist" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        ("echo 'gpu* up 4 gpu:h200:8'", "ok", "gpu* up 4 gpu:h200:8"),
        ("echo 'sinfo: error: no controller' >&2; exit 1", "note", "no controller"),
    ],
)
def test_slurm(script, status, text, tmp_path, monkeypatch):
    for name, content in (("sbatch", "exit 0"), ("sinfo", script)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = doctor._slurm()
    assert found.status == status and text in found.text


def test_no_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._slurm().facts == {"available": False}
