"""What becomes of jobs on a real scheduler."""

import re
import time

import pytest


def starts(output):
    """Where each start of `count` began."""
    return [int(n) for n in re.findall(r"'(\d+)'", output.read_text())]


def test_result_state_id_and_log_are_shown(cluster, tmp_path):
    output = tmp_path / "made.txt"
    shown = cluster.finish(cluster.drive("count", output, 2, 0.1))
    assert output.read_text() == "2 steps, started at ['0']"
    job = re.search(r"SLURM job (\d+) is to make made.txt", shown)[1]
    assert f"SLURM job {job}: log {tmp_path}/slurm/count-" in shown
    log = (tmp_path / "made.txt.log").read_text()
    assert "step 1\nstep 2\n" in log, "the job's log is streamed to the rule's"
    # everything that submitit wrote lies beside the output
    assert {path.name for path in tmp_path.iterdir()} == {"made.txt", "made.txt.log", "slurm"}


def test_python_error(cluster, tmp_path):
    shown = cluster.finish(cluster.drive("fail", tmp_path / "out", "the file is gone"), status=1)
    assert re.search(r"error: SLURM job \d+ for out failed: ValueError: the file is gone\n", shown)
    assert "the end of " in shown and "in fail" in shown


def test_killed_process(cluster, tmp_path):
    shown = cluster.finish(cluster.drive("die", tmp_path / "out"), status=1)
    assert "failed: it failed (FAILED, exit code " in shown


def test_out_of_memory(cluster, tmp_path):
    process = cluster.drive("fill_memory", tmp_path / "out", 2000, resources={"memory_gb": 0.7})
    assert "failed: it ran out of memory: raise memory_gb" in cluster.finish(process, status=1)


def test_scancel(cluster, tmp_path):
    output = tmp_path / "out"
    process = cluster.drive("count", output, 100, 0.5)
    cluster.command("scancel", cluster.running(output))
    assert "failed: it was cancelled (CANCELLED" in cluster.finish(process, status=1)
    # the job was told before it was ended, and saved its state
    state = next(tmp_path.glob("slurm/*/output/state"))
    assert int(state.read_text()) >= 1
    # the next job goes on there
    left = 100 - int(state.read_text())
    assert left < 100
    cluster.finish(cluster.drive("count", output, int(state.read_text()) + 2, 0.1))
    assert starts(output) == [0, 100 - left]


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"sbatch": {"nodelist": "n99"}}, "Invalid node name specified"),
        ({"memory_gb": 99}, "Memory specification can not be satisfied"),
    ],
)
def test_sbatch_refuses(cluster, tmp_path, resources, said):
    process = cluster.drive("count", tmp_path / "out", 1, 0.1, resources=resources)
    shown = cluster.finish(process, status=1)
    assert "error: sbatch refuses the job for out: " in shown and said in shown


def test_time_limit_twice_in_one_job(cluster, tmp_path):
    """SLURM's limits are whole minutes: the signal that comes before one is sent by hand."""
    output = tmp_path / "out"
    process = cluster.drive("count", output, 20, 0.5)
    job = cluster.running(output)
    log = next(tmp_path.glob(f"slurm/*/*/{job}_0_log.out"))
    for restart in (1, 2):
        cluster.command("scancel", "--signal=USR2", job)
        said = f"SLURM job {job} is requeued (time limit); its state is saved"
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
    assert f"SLURM job {job} is requeued (preempted); its state is saved" in log


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
