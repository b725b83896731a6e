import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2mc.cli import doctor, main
from e2mc.cli.place import unusable

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


def test_outside_a_checkout_nothing_is_said_of_a_workflow(tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "no studies/ in" in lines[-2] and "go to a checkout" in lines[-2]
    assert lines[-1].endswith("of the package; the workflow runs in a checkout.")


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a:b", "a{b}c", "a;b", "a\tb"])
def test_folder_that_the_workflow_cannot_run_in(name, tmp_path, monkeypatch, capsys):
    folder = tmp_path / name
    folder.mkdir()
    for part in ("studies", "checkpoints"):
        (folder / part).symlink_to(REPOSITORY / part)
    monkeypatch.chdir(folder)
    assert main(["doctor"]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!")]
    assert "which Snakemake cannot take: move the folder" in line


@pytest.mark.parametrize("name", ["a#b", "aéb", "a~b", "a=b,c@d%e+f!g^h", "A-1.2_b"])
def test_folder_with_an_odd_name_that_works(name):
    assert not unusable(f"/home/me/{name}")


def test_make_refuses_a_folder_before_it_installs(tmp_path):
    folder = tmp_path / "a b"
    (folder / "e2mc/cli").mkdir(parents=True)
    for part in ("Makefile", "pyproject.toml", "e2mc/cli/place.py"):
        shutil.copy(REPOSITORY / part, folder / part)
    shutil.copytree(REPOSITORY / "envs", folder / "envs")
    command = ["make", f"PYTHON={sys.executable}", "env"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and not (folder / ".venv").exists()
    assert f"there is a space in the path '{folder}'" in done.stderr
    assert "Installing" not in done.stdout


@pytest.mark.parametrize("home", ["/proc/none", "~"])
def test_home_that_cannot_be_written_is_a_note(home, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "cannot be written" in line]
    assert line.startswith("- caches") and line.endswith(".snakemake/cache")
