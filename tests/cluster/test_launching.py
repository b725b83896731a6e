import pkgutil
import subprocess
import sys

import pytest

import e2mc.cluster
from e2mc.cluster import launching, slurm
from e2mc.cluster.launching import launch
from e2mc.cluster.slurm import Resources
from e2mc.state import write_json
from e2mc.task import Task


def note(task):
    """The step of these tests."""
    task.output("out").write_text(task.arguments["text"])


def task_of(folder):
    return Task(f"{__name__}:note", {"text": "done"}, {}, {"out": str(folder / "out")}, {}, {})


@pytest.mark.parametrize(
    "module", [item.name for item in pkgutil.iter_modules(e2mc.cluster.__path__)]
)
def test_who_submits_and_waits_loads_nothing_large(module):
    """Hundreds of rules may wait at once."""
    large = "{'torch', 'numpy', 'pandas', 'pydantic', 'snakemake'}"
    script = f"import sys, submitit, e2mc.cluster.{module}; print({large} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


def test_without_resources_the_task_is_performed_here(tmp_path):
    launch(task_of(tmp_path), None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "done"


@pytest.mark.parametrize("distributed", [False, True])
def test_only_a_distributed_task_gets_several_ranks(tmp_path, monkeypatch, distributed):
    asked = []

    def find_or_submit(launcher):
        asked.append(launcher.resources)
        launcher.folder.staged.mkdir(parents=True)
        launcher.folder.task.perform()

    monkeypatch.setattr(launching._Launcher, "find_or_submit", find_or_submit)
    resources = Resources(nodes=2, gpus_per_node=4)
    launch(task_of(tmp_path), resources, distributed=distributed)
    assert asked == [resources if distributed else resources.on_one_rank()]
    assert (tmp_path / "out").read_text() == "done"


def test_job_that_an_unanswered_sbatch_left_is_found(tmp_path, monkeypatch):
    """sbatch gives up before slurmctld has taken the job, which the queue shows later."""
    commands = tmp_path / "commands"
    commands.mkdir()
    asked, submitted = commands / "asked", commands / "submitted"
    scripts = {
        "sbatch": f"""echo x >> {submitted}
            echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1""",
        "squeue": f"""[ -e {submitted} ] || exit 0
            echo x >> {asked}
            [ $(wc -l < {asked}) -lt 3 ] || cat {commands}/queue""",
    }
    for name, body in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(slurm.tempfile, "gettempdir", lambda: str(commands))
    monkeypatch.setattr(launching, "pause", lambda _: None)
    mark = slurm.comment_of

    def comment(*arguments):
        text = mark(*arguments)
        (commands / "queue").write_text(f"7|PENDING|Resources||e2mc-note|{text}\n")
        return text

    monkeypatch.setattr(slurm, "comment_of", comment)
    job = launching._Launcher(task_of(tmp_path / "made"), Resources()).find_or_submit()
    assert job.id == "7" and job.path.is_dir()
    assert submitted.read_text() == "x\n", "and no second job was submitted"


def test_job_that_ends_while_the_queue_is_asked_is_not_made_again(tmp_path, monkeypatch):
    launcher = launching._Launcher(task_of(tmp_path), Resources())

    def queue():
        write_json({"spec": launcher.folder.spec}, launcher.folder.done)
        return []

    monkeypatch.setattr(slurm, "queue", queue)
    monkeypatch.setattr(launcher, "_submit", lambda: pytest.fail("it is submitted again"))
    assert launcher.find_or_submit() is None


def test_submission_needs_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slurm.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="set launcher: local in config.yaml"):
        launch(task_of(tmp_path), Resources())
