"""Checkouts of the workflow in folders of their own, fresh or with a finished study."""

import ast
import base64
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planning import run_forked

import e2mc

REPOSITORY = Path(__file__).parents[1]
MOST_VALUES = 250  # that Snakemake compares one by one, see workflow/rules/common.smk
PARTS = ("Snakefile", "config.yaml", "studies", "workflow", "profiles", "envs", "checkpoints")


class Checkout:
    """A copy of the workflow's files in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for part in PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, folder / part)
            elif source.exists():
                shutil.copy2(source, folder / part)

    def snakemake(self, *arguments, study="smoke", **options):
        """Runs snakemake with this Python; returns the finished process with its whole output."""
        command = self.command(*arguments, study=study)
        if {"--dry-run", "--list"} & {*arguments}:
            return run_forked(command[3:], self.folder, self.environment())
        return self._run(command, **options)

    def e2mc(self, *arguments):
        """Runs a command of e2mc with this Python; the finished process with its whole output."""
        return self._run([sys.executable, "-m", "e2mc.cli", *arguments])

    def _run(self, command, **options):
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **options,
        )

    def command(self, *arguments, study="smoke"):
        return [sys.executable, "-m", "snakemake", *arguments, "--config", f"study={study}"]

    def environment(self):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        pythonpath = f"{self.folder}:{REPOSITORY}"
        return os.environ | {"PATH": path, "PYTHONPATH": pythonpath, "OMP_NUM_THREADS": "1"}

    def jobs(self, *arguments, study="smoke"):
        """Rule -> number of jobs that a dry run would start."""
        return count_jobs(self.plan(*arguments, study=study))

    def plan(self, *arguments, study="smoke"):
        """What a dry run says."""
        planned = self.snakemake("--dry-run", *arguments, study=study)
        assert planned.returncode == 0, planned.stdout
        return planned.stdout

    def with_package(self):
        """Puts a copy of the package into the checkout, which is then the one that is used."""
        source = Path(e2mc.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        return shutil.copytree(source, self.folder / "e2mc", ignore=ignored)

    def recorded(self):
        """Path of an output -> what Snakemake has recorded of the job that made it."""
        found = {}
        for file in (self.folder / ".snakemake/metadata").rglob("*"):
            if file.is_file():
                # long names are split into folders, each of which begins with @
                parts = file.relative_to(self.folder / ".snakemake/metadata").parts
                name = base64.b64decode("".join(part.removeprefix("@") for part in parts)).decode()
                found[name] = json.loads(file.read_text())
        return found


def existing(folder):
    """The checkout that is in a folder."""
    made = object.__new__(Checkout)
    made.folder = folder
    return made


def count_jobs(output):
    lines = output.split("Job stats:")[-1].splitlines()
    table = [line.split() for line in lines if len(line.split()) == 2 and line.split()[1].isdigit()]
    seen = {}
    for rule, count in table:
        if rule == "total":
            break
        seen[rule] = int(count)
    return seen


def reasons(plan):
    """What a job says of itself -> why a dry run would start it."""
    return dict(re.findall(r"^Job \d+: (.*)\nReason: (.*)$", plan, re.MULTILINE))


def values_of(reason):
    """The values that decided the outputs before, and that do so now, as a reason names them."""
    before, now = re.search(r"before: (.*?) now: (.*?) *$", reason).groups()
    return ast.literal_eval(f"[{before}]"), ast.literal_eval(f"[{now}]")


def expect_recorded(record, task):
    """A job was that of a task: what Snakemake has recorded of it are its values and inputs."""
    one_by_one, rest = task.lines[: MOST_VALUES - 1], task.lines[MOST_VALUES - 1 :]
    expected = {repr(line) for line in (*one_by_one, "; ".join(rest))}
    assert set(record["params"]) | {repr("")} == expected | {repr("")}
    assert set(record["input"]) == set(task.inputs.values())


@pytest.fixture(scope="session")
def new_checkout():
    """Makes a fresh checkout in a folder."""
    return Checkout


@pytest.fixture
def checkout(tmp_path):
    """A fresh checkout in which nothing has been run."""
    return Checkout(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A checkout in which the smoke study has been run to its report; tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the first worker that needs it makes it for all
        shared = shared.parent
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "smoke" / "done").exists():
            shutil.rmtree(shared / "smoke", ignore_errors=True)
            made = Checkout(shared / "smoke")
            done = made.snakemake("--cores", "2", "all", "report", timeout=900)
            assert done.returncode == 0, done.stdout[-5000:]
            (shared / "smoke" / "done").touch()
    return existing(shared / "smoke")


@pytest.fixture
def copy_of_finished(finished, tmp_path):
    """A copy of the finished study that a test may change, with its file times and metadata."""
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    return existing(tmp_path / "copy")
