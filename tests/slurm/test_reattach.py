"""The waiting process ends at some moment: no job is lost, and none is made twice."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

MADE_ONCE = "12 steps, started at ['0']"


def submissions(folder):
    return list(folder.glob("slurm/*/2*/*_submission.sh"))


def test_ended_in_each_way(cluster, tmp_path):
    steps = 80  # seconds: the first job runs until the last one has started, on a busy machine too
    ways = {
        "killed": (signal.SIGKILL, "cancel", True),
        "terminal closed": (signal.SIGHUP, "cancel", True),
        "asked, leaves": (signal.SIGTERM, "leave", True),
        "asked, cancels": (signal.SIGTERM, "cancel", False),
        "interrupted, cancels": (signal.SIGINT, "cancel", False),
    }
    outputs = {way: tmp_path / way / "out" for way in ways}
    first = {
        way: cluster.drive("count", outputs[way], steps, 1, resources={"on_interrupt": choice})
        for way, (_, choice, _) in ways.items()
    }
    jobs = {way: cluster.running(outputs[way]) for way in ways}
    for way, process in first.items():
        process.send_signal(ways[way][0])
    for process in first.values():
        assert process.wait(60) != 0
    left = {way for way, job in jobs.items() if cluster.queue().get(job) == "RUNNING"}
    assert left == {way for way, (_, _, stays) in ways.items() if stays}

    again = {way: cluster.drive("count", output, steps, 1) for way, output in outputs.items()}
    for way, process in again.items():
        shown = cluster.finish(process)
        assert ("makes out already" in shown) == (way in left), way
        assert "loaded besides: []" in outputs[way].with_name("out.log").read_text()
        assert outputs[way].read_text().startswith(f"{steps} steps")
        assert len(submissions(outputs[way].parent)) == (1 if way in left else 2)
    for way in left:
        assert outputs[way].read_text() == f"{steps} steps, started at ['0']"


def test_finished_meanwhile(cluster, tmp_path):
    output = tmp_path / "out"
    first = cluster.drive("count", output, 12, 0.1)
    cluster.running(output)
    first.kill()
    first.wait()
    cluster.wait_for(lambda: list(tmp_path.glob("slurm/*/done.json")), "the job's end")
    assert not output.exists()
    shown = cluster.finish(cluster.drive("count", output, 12, 0.1))
    assert "is to make" not in shown and "already" not in shown
    assert output.read_text() == MADE_ONCE


@pytest.mark.parametrize("moment", ["before the record", "before the pickle has its name"])
def test_death_after_submission(cluster, tmp_path, moment):
    """Only the comment in the queue tells of the job."""
    output = tmp_path / "out"
    assert cluster.drive("count", output, 12, 0.1, die=moment).wait(60) == 9
    assert not list(tmp_path.glob("slurm/*/job.json")) and len(cluster.queue()) == 1
    shown = cluster.finish(cluster.drive("count", output, 12, 0.1))
    assert "makes out already" in shown
    assert output.read_text() == MADE_ONCE


def test_job_of_another_spec_is_cancelled(cluster, tmp_path):
    output = tmp_path / "out"
    first = cluster.drive("count", output, 1000, 0.5)
    job = cluster.running(output)
    first.kill()
    first.wait()
    shown = cluster.finish(cluster.drive("count", output, 12, 0.1, spec="b"))
    assert f"cancelling SLURM job {job}: it makes out of another spec" in shown
    assert cluster.queue() == {} or cluster.wait_for(lambda: not cluster.queue(), "its end") is None
    assert output.read_text().startswith("12 steps")


def test_changed_input_is_another_spec(cluster, tmp_path):
    source, output = tmp_path / "in", tmp_path / "made" / "out"
    for text in ("one", "three"):
        source.write_text(text)
        cluster.finish(cluster.drive("copy", output, inputs=[str(source)]))
        assert output.read_text() == text


def test_record_of_a_job_that_is_not_ours(cluster, tmp_path):
    """Job numbers start anew when a cluster is set up again."""
    output = tmp_path / "out"
    cluster.finish(cluster.drive("count", output, 1, 0.1))
    record = next(tmp_path.glob("slurm/*/job.json"))

    def forget(expected):
        """Without what says that it is done, a job that has not left the queue is waited for."""
        cluster.wait_for(lambda: list(cluster.queue()) == expected, "the end of the job")
        record.with_name("done.json").unlink()

    forget([])
    foreign = cluster.command("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 100")
    foreign = foreign.strip()
    for job in (foreign, "999999"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"job": job}))
        shown = cluster.finish(cluster.drive("count", output, 1, 0.1))
        assert "is to make out" in shown
        forget([foreign])
    assert foreign in cluster.queue(), "and it is left alone"


def test_two_processes_wait_for_one_job(cluster, tmp_path):
    output = tmp_path / "out"
    processes = [cluster.drive("count", output, 12, 0.2) for _ in range(2)]
    shown = [cluster.finish(process) for process in processes]
    assert sum("is to make" in text for text in shown) == 1
    assert output.read_text() == MADE_ONCE


def test_folder_that_nodes_do_not_see(cluster, tmp_path):
    """A file system of this process alone, as /tmp of a login node is."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    prefix = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "_")
    process = cluster.drive("count", hidden / "out", 1, 0.1, prefix=prefix, cwd=tmp_path)
    shown = cluster.finish(process, status=1)
    assert f"its nodes cannot see {hidden}" in shown


def test_waiting_costs_next_to_nothing(cluster, tmp_path):
    """Several processes wait for jobs in a full queue; processor time of all over 8 s, memory."""
    blocker = cluster.command(
        "sbatch", "--parsable", "--output=/dev/null", "--exclusive", "--nodes=3", "--wrap=sleep 99"
    ).strip()
    cluster.wait_for(lambda: cluster.queue().get(blocker) == "RUNNING", "a full cluster")
    waiting = [
        cluster.drive("count", tmp_path / str(i) / "out", 1, 0, resources={"poll_seconds": 4})
        for i in range(6)
    ]
    cluster.wait_for(lambda: len(cluster.queue()) == 7, "jobs in the queue")

    def seconds():
        """User and system time, that of finished children (squeue) included."""
        stats = [Path(f"/proc/{process.pid}/stat").read_text() for process in waiting]
        lines = [stat.split(")")[1] for stat in stats]
        ticks = sum(int(n) for line in lines for n in line.split()[11:15])
        return ticks / int(subprocess.check_output(["getconf", "CLK_TCK"]))

    time.sleep(2)
    before, start = seconds(), time.monotonic()
    time.sleep(8)
    spent = (seconds() - before) / (time.monotonic() - start) / len(waiting)
    assert spent < 0.02, f"each waiting process takes {spent:.1%} of a core"
    for process in waiting:
        kilobytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]
        assert int(kilobytes) < 40_000, "a waiting process has loaded PyTorch"
    cluster.command("scancel", blocker)
    for process in waiting:
        cluster.finish(process)
