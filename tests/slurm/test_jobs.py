"""What becomes of jobs on a real scheduler."""

import re
import time

import pytest


def starts(output):
    """Where each start of `count` began."""
    return [int(n) for n in re.findall(r"'(\d+)'", output.read_text())]


REFUSED = {
    "partition": ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
    "account": (
        {"partition": "physics", "account": "chemistry"},
        "Invalid account or account/partition combination specified",
    ),
    "node": ({"sbatch": {"nodelist": "n99"}}, "Invalid node name specified"),
    "memory": ({"memory_gb": 99}, "Memory specification can not be satisfied"),
}


@pytest.fixture(scope="module")
def started(running_cluster, tmp_path_factory):
    """Several steps at once, whose ends the tests below look at."""
    folder = tmp_path_factory.mktemp("jobs").resolve()

    def start(name, step, *arguments, **resources):
        return running_cluster.drive(step, folder / name / "out", *arguments, resources=resources)

    processes = {
        "fine": start("fine", "count", 2, 0.1),
        "error": start("error", "fail", "the file is gone"),
        "killed": start("killed", "die"),
        "memory": start("memory", "fill_memory", 2000, memory_gb=0.7),
    }
    for name, (resources, _) in REFUSED.items():
        processes[f"refused {name}"] = start(f"refused {name}", "count", 1, 0.1, **resources)
    yield folder, processes
    for process in processes.values():
        process.kill()


def test_result_state_id_and_log_are_shown(running_cluster, started):
    folder, processes = started[0] / "fine", started[1]
    shown = running_cluster.finish(processes["fine"])
    assert (folder / "out").read_text() == "2 steps, started at ['0']"
    job = re.search(r"SLURM job (\d+) is to make out", shown)[1]
    assert f"SLURM job {job}: log {folder}/slurm/count-" in shown
    assert "step 1\nstep 2\n" in (folder / "out.log").read_text(), "the job's log is streamed"
    assert "loaded besides: []" in (folder / "out.log").read_text(), "PyTorch is for the job"
    # everything that submitit wrote lies beside the output
    assert {path.name for path in folder.iterdir()} == {"out", "out.log", "slurm", "starts"}


def test_python_error(running_cluster, started):
    shown = running_cluster.finish(started[1]["error"], status=1)
    assert re.search(r"error: SLURM job \d+ for out failed: ValueError: the file is gone\n", shown)
    assert "the end of " in shown and "in fail" in shown


def test_killed_process(running_cluster, started):
    shown = running_cluster.finish(started[1]["killed"], status=1)
    assert "failed: it failed (FAILED, exit code " in shown


def test_out_of_memory(running_cluster, started):
    shown = running_cluster.finish(started[1]["memory"], status=1)
    assert "failed: it ran out of memory: raise memory_gb" in shown


@pytest.mark.parametrize("what", REFUSED)
def test_sbatch_refuses(running_cluster, started, what):
    shown = running_cluster.finish(started[1][f"refused {what}"], status=1)
    assert "error: sbatch refuses the job for out: " in shown and REFUSED[what][1] in shown


def test_step_updates_what_is_in_its_place(cluster, tmp_path):
    output = tmp_path / "out"
    for number, lines in enumerate(("a\n", "a\nb\n")):
        cluster.finish(cluster.drive("add", output, "ab"[number], spec=str(number)))
        assert output.read_text() == lines
    assert not list(tmp_path.rglob("*.part"))


def test_scancel(cluster, tmp_path):
    output = tmp_path / "out"
    process = cluster.drive("count", output, 100, 0.5)
    cluster.command("scancel", cluster.running(output))
    assert "failed: it was cancelled (CANCELLED" in cluster.finish(process, status=1)
    # the job was told before it was ended, and saved its state: the next one goes on there
    done = int(next(tmp_path.glob("slurm/*/output/state")).read_text())
    cluster.finish(cluster.drive("count", output, done + 2, 0.1))
    assert starts(output) == [0, done] and done > 0


def test_time_limit_twice_in_one_job(cluster, tmp_path):
    """SLURM's limits are whole minutes: the signal that comes before one is sent by hand."""
    output = tmp_path / "out"
    process = cluster.drive("count", output, 20, 0.5)
    job = cluster.running(output)
    log = next(tmp_path.glob(f"slurm/*/*/{job}_0_log.out"))
    for restart in (1, 2):
        cluster.command("scancel", "--signal=USR2", job)
        said = f"SLURM job {job} goes back into the queue (time limit); its state is saved"
        cluster.wait_for(lambda: log.read_text().count(said) == restart, said)  # noqa: B023
        cluster.wait_for(lambda: "step " in log.read_text().split(said)[-1], "a restart")  # noqa: B023
    shown = cluster.finish(process)
    assert len(starts(output)) == 3 and starts(output) == sorted(set(starts(output)))
    assert shown.count("is to make") == 1, "one job, requeued"


def test_time_limit_beyond_the_allowed_requeues(cluster, tmp_path):
    output = tmp_path / "out"
    process = cluster.drive("count", output, 100, 0.5, resources={"max_requeues": 0})
    cluster.command("scancel", "--signal=USR2", cluster.running(output))
    shown = cluster.finish(process, status=1)
    assert (
        "failed: it reached its time limit of 600 minutes 1 times, and max_requeues is 0" in shown
    )
    assert next(tmp_path.glob("slurm/*/output/state")).exists()


def test_preemption_by_a_higher_partition(cluster, tmp_path):
    output = tmp_path / "out"
    process = cluster.drive(
        "count",
        output,
        24,
        0.5,
        resources={"max_requeues": 0, "sbatch": {"nodelist": "n3", "exclusive": True}},
    )
    job = cluster.running(output)
    cluster.command(
        "sbatch", "--partition=high", "--nodelist=n3", "--exclusive", "--output=/dev/null",
        "--wrap=sleep 3",
    )  # fmt: skip
    shown = cluster.finish(process)
    assert len(starts(output)) == 2 and starts(output)[1] > 0
    assert f"SLURM job {job}: PENDING" in shown
    log = (tmp_path / "out.log").read_text()
    assert f"SLURM job {job} goes back into the queue (preempted); its state is saved" in log


def test_node_dies(cluster, tmp_path):
    """No signal comes: SLURM finds the node dead, and the job goes on from its periodic state."""
    output = tmp_path / "out"
    process = cluster.drive("count", output, 12, 0.5)
    job = cluster.running(output)
    cluster.wait_for(lambda: list(tmp_path.glob("slurm/*/output/state")), "a periodic state")
    node = cluster.command("squeue", "-h", "-j", job, "-o", "%N").strip()
    cluster.script("kill-node", node.removeprefix("n"))
    try:
        cluster.finish(process)
    finally:
        cluster.script("node", node.removeprefix("n"))
    assert len(starts(output)) == 2 and starts(output)[1] in (3, 6, 9)


def test_job_that_can_never_start(cluster, tmp_path):
    """Where a cluster takes every job, what is wrong with one stands in the queue alone."""
    cluster.command("scontrol", "update", "partition=late", "state=down", "maxtime=infinite")
    process = cluster.drive("count", tmp_path / "out", 1, 0.1, resources={"partition": "late"})
    cluster.wait_for(lambda: cluster.queue(), "the job")
    cluster.command("scontrol", "update", "partition=late", "state=up", "maxtime=1")
    shown = cluster.finish(process, status=1)
    assert re.search(r"SLURM job \d+ for out cannot start: \(PartitionTimeLimit\)", shown)
    assert not cluster.queue()


def test_slurmctld_restarts(cluster, tmp_path):
    output, other = tmp_path / "a" / "out", tmp_path / "b" / "out"
    process = cluster.drive("count", output, 20, 0.5)
    cluster.running(output)
    cluster.stop_slurmctld()
    submitted_meanwhile = cluster.drive("count", other, 2, 0.1)
    time.sleep(12)
    cluster.script("ctld")
    cluster.finish(process)
    cluster.finish(submitted_meanwhile)
    assert starts(output) == starts(other) == [0]


@pytest.mark.long
def test_real_time_limits(cluster, tmp_path):
    """A minute is the shortest limit that SLURM has; a signal may come up to a minute early."""
    output = tmp_path / "count" / "out"
    limits = {"time_minutes": 2, "signal_seconds": 60}
    counting = cluster.drive("count", output, 240, 0.5, resources=limits)
    limits = {"time_minutes": 1, "signal_seconds": 30}
    sleeping = cluster.drive("sleep", tmp_path / "sleep" / "out", 600, resources=limits)
    shown = cluster.finish(sleeping, status=1, seconds=300)
    assert "failed: it reached its time limit: raise time_minutes, or signal_seconds" in shown
    shown = cluster.finish(counting, seconds=900)
    assert output.read_text().startswith("240 steps")
    assert len(starts(output)) >= 3 and starts(output) == sorted(set(starts(output)))
    assert shown.count("is to make") == 1
    log = output.with_name("out.log").read_text()
    assert log.count("goes back into the queue (time limit)") == len(starts(output)) - 1
