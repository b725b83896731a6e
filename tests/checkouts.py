"""Checkouts of the workflow in folders of their own, fresh or with a finished study."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
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
        return subprocess.run(
            self.command(*arguments, study=study),
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
        planned = self.snakemake("--dry-run", *arguments, study=study)
        assert planned.returncode == 0, planned.stdout
        return count_jobs(planned.stdout)


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
