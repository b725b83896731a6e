"""Killed at any moment and started again, the study ends with the same results."""

import os
import signal
import subprocess
import time

import pytest


def checkpoints(folder):
    root = folder / "results/smoke"
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted(root.glob("*/**/checkpoint.pt"))
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_study_goes_on(how, finished, checkout):
    target = "results/smoke/continued/vicreg/e2mc/base0-cont0/checkpoint.pt"
    command = checkout.command("--cores", "1", "--nolock", target)
    log = (checkout.folder / "first.log").open("w")
    first = subprocess.Popen(
        command,
        cwd=checkout.folder,
        env=checkout.environment(),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    base = checkout.folder / "results/smoke/logs/bases/vicreg/base0.log"
    deadline = time.monotonic() + 120
    while not base.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2.5)
    os.killpg(first.pid, how)
    assert first.wait(timeout=60) != 0

    again = checkout.snakemake("--cores", "1", "--nolock", target, timeout=300)
    assert again.returncode == 0, again.stdout
    made, expected = checkpoints(checkout.folder), checkpoints(finished.folder)
    assert len(made) == 2
    assert all(expected[name] == content for name, content in made.items())
