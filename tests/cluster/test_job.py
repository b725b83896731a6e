"""What a job does that needs no scheduler; the rest is in tests/slurm."""

import json

import pytest

from e2mc import progress
from e2mc.cluster import slurm
from e2mc.cluster.job import SlurmJob
from e2mc.errors import InputError, MachineError
from e2mc.task import Task


def write(task):
    task.output("out").write_text("made")


def stopped(task):
    raise progress.Interrupted


def changed(task):
    raise InputError("the study has changed: run the same again")


def faulty(task):
    raise ValueError("no")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes the job of one of the steps above."""
    for name, value in {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("e2mc.cluster.job.signal.signal", lambda *_: None)
    monkeypatch.setattr("e2mc.cluster.job.time.sleep", lambda _: None)

    def make(step):
        return SlurmJob(
            task=Task(f"{__name__}:{step.__name__}", {}, {}, {"out": "out"}, {}, {}),
            workdir=tmp_path,
            folder=tmp_path,
            done=tmp_path / "done.json",
            spec="a",
            time_minutes=10,
            max_requeues=1,
            signal_seconds=60,
        )

    return make


def report(folder):
    return json.loads((folder / "failed-0.json").read_text())["message"]


def test_done_is_of_a_spec(job, tmp_path):
    job(write)()
    assert (tmp_path / "out").read_text() == "made"
    assert json.loads((tmp_path / "done.json").read_text()) == {"spec": "a", "job": "7"}


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        (changed, InputError, "the study has changed: run the same again"),
        (faulty, ValueError, "ValueError: no"),
    ],
)
def test_failure_is_reported_and_is_not_done(job, tmp_path, step, error, said):
    with pytest.raises(error):
        job(step)()
    assert report(tmp_path) == said and not (tmp_path / "done.json").exists()
    job(write)()
    assert not (tmp_path / "failed-0.json").exists()


def test_requeue_is_insisted_on(job, tmp_path, monkeypatch):
    answers = [slurm.Unreachable("away"), {"JobState": "RUNNING"}]
    requeued = []

    def fields(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "job_fields", fields)
    monkeypatch.setattr(slurm, "requeue", requeued.append)
    with pytest.raises(SystemExit):
        job(stopped)()
    assert requeued == ["7"] and not (tmp_path / "failed-0.json").exists()


def test_node_that_cannot_ask_slurm_says_so(job, tmp_path, monkeypatch):
    def away(_):
        raise MachineError("scontrol is not on this machine")

    monkeypatch.setattr(slurm, "job_fields", away)
    with pytest.raises(SystemExit):
        job(stopped)()
    assert "scontrol is not on this machine; its state is saved" in report(tmp_path)
