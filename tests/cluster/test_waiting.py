import pytest

from e2mc.cluster import waiting
from e2mc.cluster.slurm import Resources
from e2mc.cluster.staging import JobFolder
from e2mc.cluster.waiting import Job
from e2mc.state import write_json
from e2mc.task import Task


@pytest.fixture
def job(tmp_path):
    task = Task("steps:train", {}, {}, {"checkpoint": str(tmp_path / "a.pt")}, {}, {})
    made = Job("7", "now", JobFolder(task), Resources(latency_seconds=40))
    made.path.mkdir(parents=True)
    return made


def write_log(job, text, rank=0):
    job.log(rank).write_text(text)


def write_report(job, message, rank=0):
    content = {"message": message, "rank": rank, "time": 1.0}
    write_json(content, job.path / f"failed-{rank}.json")


def test_out_of_memory_is_said_before_what_another_rank_lost(job):
    write_log(job, "step 3\nConnection closed by peer\n")
    write_log(job, "slurmstepd: error: Detected 1 oom-kill event(s)\n", rank=1)
    write_report(job, "RuntimeError: Connection closed by peer")
    said = job._failure("FAILED", "exit code 1:0")
    assert "it ran out of memory: raise memory_gb (a process said: RuntimeError: Conn" in said
    assert said.endswith("  step 3\n  Connection closed by peer")


def test_report_is_told_without_a_log(job):
    write_report(job, "ValueError: no", rank=3)
    assert job._failure("FAILED", "").endswith("failed: ValueError: no")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("BOOT_FAIL", "the node failed to boot (BOOT_FAIL, exit code 0:0)"),
        ("CANCELLED", "it was cancelled before it ran"),
        ("UNKNOWN", "SLURM has forgotten why"),
        ("FAILED", "its nodes cannot see"),
    ],
)
def test_end_without_a_log(job, state, said):
    assert said in job._failure(state, "exit code 0:0")


def test_shared_file_systems_show_files_late(job):
    assert job._settle_seconds("COMPLETED") == 40
    assert job._settle_seconds("FAILED") == 40
    assert job._settle_seconds("CANCELLED") < 10
    write_log(job, "step 1\n")
    assert job._settle_seconds("FAILED") < 10
    write_report(job, "ValueError: no")
    assert job._settle_seconds("COMPLETED") == 0


def test_machine_that_cannot_ask_goes_on_waiting(job, monkeypatch, capfd):
    """The job runs on, though this machine's /tmp may be full."""

    def queue(*_):
        write_json({"spec": job.folder.spec}, job.folder.done)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(waiting.slurm, "queue", queue)
    monkeypatch.setattr(waiting, "pause", lambda _: None)
    job.wait()
    assert "trying again: [Errno 28] No space left on device" in capfd.readouterr().err
