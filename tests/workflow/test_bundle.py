"""A bundle, unpacked elsewhere, makes its table again; of the smoke study's results."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from e2mc.cli import main
from e2mc.reporting.bundle import chosen, placed_studies
from e2mc.study import load_study

pytest.importorskip("rocrate")

REPOSITORY = Path(__file__).parents[2]
SOURCE = ("e2mc", "docs", "Makefile", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml")
SOURCE += (".gitignore",)
ROOT = "results/smoke"
BUNDLE = ["bundle", "--study", "smoke"]


def git(*words):
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@example.invalid")
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


def commit():
    git("init")
    git("add", "--all")
    git("commit", "--message", "Begin")


@pytest.fixture
def clone(copy_of_finished, monkeypatch):
    """A clone in which the smoke study is finished."""
    for name in SOURCE:
        path = REPOSITORY / name
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, copy_of_finished.folder / name)
    monkeypatch.chdir(copy_of_finished.folder)
    commit()
    return copy_of_finished.folder


@pytest.fixture
def unpacked(clone, tmp_path):
    assert main(BUNDLE) == 0
    folder = tmp_path / "elsewhere"
    shutil.unpack_archive(clone / ROOT / "smoke-bundle.zip", folder)
    return folder


def snakemake(folder, *words):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *words],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_table_is_made_again_from_the_archive_alone(unpacked, finished):
    """With the source in it, the study chosen, and neither images nor checkpoints of results/."""
    first = (finished.folder / ROOT / "tables/table1.md").read_text()
    table = unpacked / ROOT / "tables/table1.md"
    assert table.read_text() == first
    assert not list((unpacked / "results").rglob("*.pt"))
    shutil.rmtree(table.parent)
    said = snakemake(unpacked, "table1")
    assert "1 of 1 steps" in said, said[-2000:]
    assert table.read_text() == first
    table.unlink()
    snakemake(unpacked, "--force", "table1")
    assert table.read_text() == first


def test_description_names_every_file(unpacked):
    from rocrate.rocrate import ROCrate

    crate = ROCrate(unpacked)
    described = {entity.id for entity in crate.data_entities}
    there = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    assert described == there - {"ro-crate-metadata.json"}
    for name in ("LICENSE", "envs/requirements.txt", "studies/smoke.yaml", "studies/fashion.yaml"):
        assert name in described
    assert crate.mainEntity.id == "Snakefile"
    assert (
        crate.license["name"] == yaml.safe_load((unpacked / "CITATION.cff").read_text())["license"]
    )
    root = crate.root_dataset
    for key in ("name", "description", "datePublished", "version", "creator"):
        assert root[key], key
    graph = json.loads((unpacked / "ro-crate-metadata.json").read_text())["@graph"]
    (action,) = [item for item in graph if item["@type"] == "CreateAction"]
    assert {"@id": "studies/smoke.yaml"} in action["object"]
    assert {"@id": f"{ROOT}/tables/table1.md"} in action["result"]


def test_what_is_not_tracked_stays_out(clone):
    Path("notes.txt").write_text("mine")
    config = Path("config.yaml")
    config.write_text(config.read_text().replace("imagenet: null", "imagenet: /home/me/imagenet"))
    assert main([*BUNDLE, "--output", "out.zip"]) == 0
    with zipfile.ZipFile("out.zip") as archive:
        assert "notes.txt" not in archive.namelist()
        kept = yaml.safe_load(archive.read("config.yaml"))
        graph = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    assert (kept["study"], kept["data_folders"]["imagenet"]) == ("smoke", None)
    (root,) = [item for item in graph if item["@id"] == "./"]
    assert root["version"].endswith(" with later changes")


def test_archive_that_is_there_is_kept(clone, capsys):
    archive = Path("out.zip")
    archive.write_text("mine")
    assert main([*BUNDLE, "--output", "out.zip"]) == 1
    assert "out.zip exists: name another file, or give --force" in capsys.readouterr().err
    assert archive.read_text() == "mine"
    (Path(ROOT) / "tables/table1.md").unlink()
    assert main([*BUNDLE, "--output", "out.zip", "--force"]) == 1
    message = (
        "study smoke is not finished, 1 files are missing, e.g. results/smoke/tables/table1.md"
    )
    assert message in capsys.readouterr().err
    assert archive.read_text() == "mine" and not list(Path().glob(".out.zip*"))


def test_folder_that_is_no_clone(copy_of_finished, monkeypatch, capsys):
    monkeypatch.chdir(copy_of_finished.folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(copy_of_finished.folder.parent))
    assert main(BUNDLE) == 1
    assert "run it in a clone with a commit" in capsys.readouterr().err


def test_package_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setitem(sys.modules, "rocrate", None)
    assert main(BUNDLE) == 1
    assert "pip install 'e2mc[bundle]'" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A study file outside of studies/ that extends one beside it."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    for name in ("smoke", "fashion"):
        shutil.copy(REPOSITORY / f"studies/{name}.yaml", f"mine/{name}.yaml")
    return load_study("mine/smoke.yaml")


def test_own_study_gets_a_place_in_the_archive(own):
    wanted = {
        Path(f"studies/{name}.yaml"): Path(f"mine/{name}.yaml") for name in ("smoke", "fashion")
    }
    assert placed_studies(own, ()) == wanted
    config = chosen("study: fashion          # a name\ndevice: auto\n", own)
    assert yaml.safe_load(config) == {"study": "studies/smoke.yaml", "device": "auto"}
    assert "# a name" in config


def test_own_study_takes_no_other_file_s_place(own, capsys):
    Path("studies").mkdir()
    Path("studies/fashion.yaml").write_text("name: another\n")
    with pytest.raises(ValueError, match=r"mine/fashion.yaml would be studies/fashion.yaml in the"):
        placed_studies(own, [Path("studies/fashion.yaml")])
