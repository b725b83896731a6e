"""The locked environment: what it covers, what uses it, and what is built from it."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
ENVS = REPOSITORY / "envs"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")
LOCKED = ("requirements.txt", "docs.txt", "build.txt")
# extras that are no part of the set-up
NOT_LOCKED = {"text", "wandb"}

_spec = importlib.util.spec_from_file_location("lock", ENVS / "lock.py")
lock = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lock)


def entries(name):
    """(requirement, its hashes) of every package in a locked file."""
    text = (ENVS / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        stated, *hashes = line.split("--hash=")
        yield Requirement(stated), [found.strip() for found in hashes]


def asked():
    """Every requirement of pyproject.toml that the set-up installs."""
    extras = [text for name, texts in EXTRAS.items() if name not in NOT_LOCKED for text in texts]
    project = PYPROJECT["project"]["dependencies"] + PYPROJECT["build-system"]["requires"]
    return sorted({*project, *extras, *PYPROJECT["tool"]["uv"]["constraint-dependencies"]})


def linux(python):
    """A machine as markers see it."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    }


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("text", asked())
def test_lock_has_what_the_project_asks_for(text, python):
    wanted = Requirement(text)
    here = {
        found.specifier
        for found, _ in (*entries("requirements.txt"), *entries("docs.txt"))
        if canonicalize_name(found.name) == canonicalize_name(wanted.name)
        and (found.marker is None or found.marker.evaluate(linux(python)))
    }
    assert len(here) == 1, f"{text} is not locked: run `make lock`"
    ((exact,),) = here
    assert exact.operator == "==" and wanted.specifier.contains(exact.version, prereleases=True)


@pytest.mark.parametrize("name", LOCKED)
def test_every_locked_package_has_hashes(name):
    found = list(entries(name))
    assert found
    for requirement, hashes in found:
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes)
        assert not requirement.url


def test_site_is_built_without_changing_the_environment():
    """What `make docs` installs has the versions that `make env` has."""
    text = {name: (ENVS / name).read_text() for name in ("requirements.txt", "docs.txt")}
    base, docs = map(lock.locked_versions, text.values())
    shared = base.keys() & docs.keys()
    assert "jinja2" in shared and {n: base[n] for n in shared} == {n: docs[n] for n in shared}


def test_source_packages_are_built_with_what_is_locked():
    (build,) = entries("build.txt")
    both = [item for item in entries("requirements.txt") if item[0].name == "setuptools"]
    assert [(str(build[0]), build[1])] == [(str(found), hashes) for found, hashes in both]


@pytest.mark.parametrize(
    "path",
    [*sorted(path for path in ENVS.iterdir() if path.is_file()), REPOSITORY / "Containerfile"],
    ids=lambda path: path.name,
)
def test_no_address_is_named(path):
    text = path.read_text()
    assert not re.search(r"\w://|index-url|find-links|trusted-host", text)
    bases = re.findall(r"^From:? +(\S+)", text, re.MULTILINE | re.IGNORECASE)
    assert not any("/" in image for image in bases)


def planned(*words):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_set_up_installs_the_lock_with_hashes():
    installs = [line for line in planned("env").splitlines() if "pip install" in line]
    assert len(installs) == 3
    for line, name in zip(installs, ("build.txt", "requirements.txt"), strict=False):
        assert "--require-hashes" in line and line.endswith(f"--requirement envs/{name}")
    assert "--no-deps" in installs[2] and installs[2].endswith("--editable .")
    assert "envs/lock.py" in planned("lock")


def test_set_up_refuses_other_pythons(tmp_path):
    old = tmp_path / "python"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 14)\n$2"\n'
    )
    old.chmod(0o755)
    shutil.copytree(ENVS, tmp_path / "envs")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    done = subprocess.run(
        ["make", "env", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode and "Python 3.11 to 3.13 is needed" in done.stderr


def test_lock_is_read_and_written_into_the_conda_file():
    versions = lock.locked_versions("A_b.c==1.0 ; python_version < '3.15' \\\n    --hash=x\nd==2\n")
    assert versions == {"a-b-c": "1.0", "d": "2"}
    conda = "dependencies:\n  - python =3.12\n  - pip:\n      - A_b.c >=0.5\n      - d ==1\n"
    written = conda.replace(">=0.5", "==1.0").replace("==1\n", "==2\n")
    assert lock.pinned(conda, versions) == written


def test_conda_file_pins_what_the_workflow_needs_as_locked():
    text = (ENVS / "e2mc.yaml").read_text()
    content = yaml.safe_load(text)
    *conda, pip = content["dependencies"]
    assert all(re.fullmatch(r"[a-z]+ =\d+(\.\d+)+", line) for line in conda)
    assert conda[0].startswith("python =3.12.")
    wanted = PYPROJECT["project"]["dependencies"] + EXTRAS["workflow"]
    names = {canonicalize_name(Requirement(line).name) for line in pip["pip"]}
    assert names == {canonicalize_name(Requirement(line).name) for line in wanted}
    versions = lock.locked_versions((ENVS / "requirements.txt").read_text())
    assert lock.pinned(text, versions) == text, "run `make lock`"


def container_steps():
    """Instructions of the container file, with continued lines joined."""
    text = (REPOSITORY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def definition_sections():
    """Section -> its lines of the Apptainer definition; the header's under an empty name."""
    sections = {"": []}
    for line in (ENVS / "e2mc.def").read_text().splitlines():
        if line.startswith("%"):
            sections[line[1:]] = []
        elif line and not line.startswith("#"):
            sections[list(sections)[-1]].append(line.strip())
    return sections


def test_container_file_is_clean():
    hadolint = shutil.which("hadolint") or shutil.which(
        "hadolint", path=Path(sys.executable).parent
    )
    if hadolint is None:
        pytest.skip("hadolint is not installed: it is in the lock, run `make env`")
    done = subprocess.run(
        [hadolint, "Containerfile"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_container_file_and_definition_install_the_lock_alike():
    steps = container_steps()
    assert {name for name, _ in steps} <= {"FROM", "WORKDIR", "COPY", "RUN", "CMD"}
    sections = definition_sections()
    assert set(sections) == {"", "files", "post", "runscript", "test"}
    header = dict(line.split(": ") for line in sections[""])
    assert header == {"Bootstrap": "docker", "From": dict(steps)["FROM"]}
    run = [line for name, line in steps if name == "RUN"]
    installs = [line.strip() for text in run for line in text.split("&&")]
    assert installs == [line for line in sections["post"] if line.startswith("pip ")]
    for line, name in zip(installs, ("build.txt", "requirements.txt"), strict=False):
        assert "--require-hashes" in line and line.endswith(f"--requirement envs/{name}")


def test_container_file_and_definition_copy_the_same_files():
    copied = {
        source for name, line in container_steps() if name == "COPY" for source in line.split()[:-1]
    }
    files = [line.split() for line in definition_sections()["files"]]
    assert {source for source, _ in files} == copied
    assert all(place == f"/opt/e2mc/{source}" for source, place in files)
    assert all((REPOSITORY / source).exists() for source in copied)


FAKE_APPTAINER = """\
#!{python}
import os, subprocess, sys
if "--version" in sys.argv:
    print("apptainer version 1.3.4")
else:
    with open(os.environ["CALLED"], "a") as file:
        print(*sys.argv[1:], file=file)
    sys.exit(subprocess.run(sys.argv[-3:]).returncode)
"""


def test_snakemake_runs_jobs_in_the_image(checkout, tmp_path):
    """With a stand-in that notes how it was called and runs the command outside of any image."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apptainer").write_text(FAKE_APPTAINER.format(python=sys.executable))
    (tools / "apptainer").chmod(0o755)
    (checkout.folder / "envs/e2mc.sif").touch()
    called = tmp_path / "called"
    environment = checkout.environment()
    environment |= {"PATH": f"{tools}:{environment['PATH']}", "CALLED": str(called)}
    command = checkout.command("--cores", "1", "check_data", "--software-deployment-method")
    at = command.index("--config")
    command.insert(at, "apptainer")
    done = subprocess.run(
        command, cwd=checkout.folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"exec --home .*envs/e2mc\.sif", called.read_text())
    assert (checkout.folder / "results/smoke/data/images.pt").exists()
