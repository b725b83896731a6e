import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2mc.cluster.slurm import Resources
from e2mc.cluster.waiting import Task
from e2mc.state import write_json


def test_task_goes_to_another_process():
    resources = Resources(setup=("module load cuda",), sbatch={"gres": "gpu:2"}, memory_gb=None)
    outputs = [Path("/work/a.pt"), Path("/work/b.csv")]
    task = Task("train", outputs, Path("/work/slurm/train-0"), "spec", resources, "today")
    again = Task.of_text(task.as_text())
    setup = {"setup": list(again.resources.setup)}
    assert vars(again) | {"resources": None} == vars(task) | {"resources": None}
    assert vars(again.resources) | setup == vars(task.resources) | setup


def test_waiting_does_not_need_torch():
    """Hundreds of rules may wait at once."""
    script = "import sys, e2mc.cluster.waiting; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"


@pytest.fixture
def task(tmp_path):
    resources = Resources(latency_seconds=40)
    made = Task("train", [tmp_path / "a.pt"], tmp_path / "slurm/train-0", "spec", resources, "now")
    (made.folder / "now").mkdir(parents=True)
    return made


def write_log(task, text, rank=0):
    task.log("7", rank).write_text(text)


def write_report(task, message, rank=0):
    content = {"message": message, "rank": rank, "time": 1.0}
    write_json(content, task.folder / f"now/failed-{rank}.json")


def test_out_of_memory_is_said_before_what_another_rank_lost(task):
    write_log(task, "step 3\nConnection closed by peer\n")
    write_log(task, "slurmstepd: error: Detected 1 oom-kill event(s)\n", rank=1)
    write_report(task, "RuntimeError: Connection closed by peer")
    said = task._failure("7", "FAILED", "exit code 1:0")
    assert "it ran out of memory: raise memory_gb (a process said: RuntimeError: Conn" in said
    assert said.endswith("  step 3\n  Connection closed by peer")


def test_report_is_told_without_a_log(task):
    write_report(task, "ValueError: no", rank=3)
    assert task._failure("7", "FAILED", "").endswith("failed: ValueError: no")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("BOOT_FAIL", "the node failed to boot (BOOT_FAIL, exit code 0:0)"),
        ("CANCELLED", "it was cancelled before it ran"),
        ("UNKNOWN", "SLURM has forgotten why"),
        ("FAILED", "its nodes cannot see"),
    ],
)
def test_end_without_a_log(task, state, said):
    assert said in task._failure("7", state, "exit code 0:0")


def test_shared_file_systems_show_files_late(task):
    assert task._settle_seconds("7", "COMPLETED") == 40
    assert task._settle_seconds("7", "FAILED") == 40
    assert task._settle_seconds("7", "CANCELLED") < 10
    write_log(task, "step 1\n")
    assert task._settle_seconds("7", "FAILED") < 10
    write_report(task, "ValueError: no")
    assert task._settle_seconds("7", "COMPLETED") == 0


def test_who_started_a_rule_behind_a_shell():
    """An older bash stays between Snakemake and the rule's process."""
    script = "from e2mc.cluster import waiting; print(*waiting._starters())"
    command = ["bash", "-c", '"$0" -c "$1"; true', sys.executable, script]
    shell, starter = subprocess.check_output(command, text=True).split()
    assert int(starter) == os.getpid() and int(shell) != os.getpid()
    alone = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert alone.split() == [str(os.getpid())]
