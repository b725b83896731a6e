import subprocess
import sys
from pathlib import Path

from e2mc.slurm import Resources
from e2mc.waiting import Task


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
    script = "import sys, e2mc.waiting; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"
