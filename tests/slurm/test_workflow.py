"""The workflow through a real scheduler, undisturbed and killed again and again."""

import json
import os
import random
import re
import signal
import subprocess
import time

import pytest

TARGETS = {
    "two runs": [
        f"results/smoke/continued/vicreg/{arm}/base0-cont0/checkpoint.pt"
        for arm in ("continued", "e2mc")
    ],
    "table": ["table2"],
}


def start(cluster, checkout, *targets):
    """Snakemake in a session of its own, as a terminal has one."""
    config = checkout.folder / "config.yaml"
    config.write_text(config.read_text().replace("defaults: {}", "defaults: {poll_seconds: 2}"))
    command = checkout.command("--profile", "profiles/slurm", "--nolock", *targets)
    with (checkout.folder / "snakemake.log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=checkout.folder,
            env=checkout.environment() | {"SLURM_CONF": cluster.environment["SLURM_CONF"]},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def made(folder):
    """What the runs made: checkpoints bit by bit, and the scores of results."""
    root = folder / "results/smoke"
    found = {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("checkpoint.pt")
        if "slurm" not in path.parts
    }
    for path in root.glob("evaluations/**/*.json"):
        if "slurm" not in path.parts:
            found[path.relative_to(root)] = json.loads(path.read_text())["scores"]
    return found


def check(cluster, checkout, finished):
    """Nothing was made twice or is left over, and everything is as on an undisturbed machine."""
    cluster.wait_for(lambda: not cluster.queue(), "an empty queue")
    found, expected = made(checkout.folder), made(finished.folder)
    assert found and all(expected[name] == content for name, content in found.items())
    tasks = list(checkout.folder.glob("results/smoke/**/slurm/*/job.json"))
    for task in tasks:
        logs = [path.read_text() for path in task.parent.glob("*/*_0_log.out")]
        assert sum("Job completed successfully" in text for text in logs) <= 1, task
    assert not list(checkout.folder.glob("results/**/*.part"))
    return tasks


def test_smoke_study_through_slurm(cluster, checkout, finished):
    # without tables and figures, which are never submitted
    targets = [f"results/smoke/{path}" for path in made(finished.folder)]
    workflow = start(cluster, checkout, *targets)
    most = 0
    while workflow.poll() is None:
        most = max(most, len(cluster.queue()))
        time.sleep(0.5)
    assert workflow.returncode == 0, (checkout.folder / "snakemake.log").read_text()[-5000:]
    assert most >= 8
    assert len(check(cluster, checkout, finished)) == 34
    assert made(checkout.folder).keys() == made(finished.folder).keys()


def at_any_time(cluster, workflow, draw):
    return workflow.wait(draw.uniform(8, 30))


def with_a_job(cluster, workflow, draw):
    while workflow.poll() is None and not cluster.queue():
        time.sleep(0.2)
    return workflow.wait(draw.uniform(0, 2))


def kill(cluster, checkout, targets, ways, moments, seed):
    """Starts the workflow once per way, and ends it in that way at a random moment."""
    draw = random.Random(seed)
    for number, of_all in ways:
        workflow = start(cluster, checkout, *targets)
        try:
            status = draw.choice(moments)(cluster, workflow, draw)
        except subprocess.TimeoutExpired:
            if of_all:  # as a terminal does
                os.killpg(workflow.pid, number)
            else:
                os.kill(workflow.pid, number)
            workflow.wait(90)
        else:
            # it was done before the moment came
            assert status == 0, (checkout.folder / "snakemake.log").read_text()[-5000:]
    workflow = start(cluster, checkout, *targets)
    log = checkout.folder / "snakemake.log"
    assert workflow.wait(900) == 0, log.read_text()[-5000:]
    return log.read_text()


WAYS = [
    (signal.SIGINT, True),
    (signal.SIGTERM, False),
    (signal.SIGKILL, True),
    (signal.SIGHUP, True),
]


def test_killed_in_each_way(cluster, checkout, finished):
    log = kill(cluster, checkout, TARGETS["two runs"], WAYS, [with_a_job], seed=0)
    assert "cancelled SLURM job" in log
    check(cluster, checkout, finished)


@pytest.mark.long
def test_killed_twenty_times(cluster, checkout, finished):
    ways = [(number, of_all) for number, _ in WAYS for of_all in (True, False)] * 3
    random.Random(1).shuffle(ways)
    log = kill(cluster, checkout, TARGETS["table"], ways[:20], [at_any_time, with_a_job], seed=1)
    tasks = check(cluster, checkout, finished)
    found = len(re.findall(r"makes .* already: waiting for it", log))
    print(f"{len(tasks)} tasks, {log.count(' is to make ')} submissions, {found} found again")
