"""What a job does that needs no scheduler; the rest is in tests/slurm."""

import json

import pytest

from e2mc import progress
from e2mc.cluster import slurm
from e2mc.cluster.job import SlurmJob
from e2mc.code_hash import Code


@pytest.fixture
def job(tmp_path, monkeypatch):
    for name, value in {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("e2mc.cluster.job.signal.signal", lambda *_: None)
    monkeypatch.setattr("e2mc.cluster.job.time.sleep", lambda _: None)

    def make(step, **values):
        code = Code("training", ("criteria/mmcr.py",))
        fields = {"code": code, "versions": code.versions(), "signal_seconds": 60}
        return SlurmJob(
            step=step,
            arguments=(),
            workdir=tmp_path,
            folder=tmp_path,
            done=tmp_path / "done.json",
            spec="a",
            time_minutes=10,
            max_requeues=1,
            **fields | values,
        )

    return make


def stopped():
    raise progress.Interrupted


def report(folder):
    return json.loads((folder / "failed-0.json").read_text())["message"]


def test_done_is_of_the_code_at_submission(job, tmp_path):
    made = tmp_path / "made"
    before = Code("training").versions() | {"criteria/mmcr.py": "another"}
    message = r"the code of criteria/mmcr\.py has changed since this job"
    with pytest.raises(RuntimeError, match=message):
        job(made.touch, versions=before)()
    assert not made.exists() and not (tmp_path / "done.json").exists()
    assert "run the same again" in report(tmp_path)
    job(made.touch)()
    assert made.exists() and json.loads((tmp_path / "done.json").read_text())["spec"] == "a"


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
        raise RuntimeError("scontrol is not on this machine")

    monkeypatch.setattr(slurm, "job_fields", away)
    with pytest.raises(SystemExit):
        job(stopped)()
    assert "scontrol is not on this machine; its state is saved" in report(tmp_path)
