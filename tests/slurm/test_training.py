"""The real training loop in jobs: on several nodes, and stopped on the way."""

import torch
from drive import task_of

from e2mc.checkpoints.checkpoint import load_checkpoint


def test_two_nodes_with_two_tasks_equal_one_process(cluster, tmp_path):
    outputs = [tmp_path / name / "checkpoint.pt" for name in ("whole", "stopped")]
    resources = {"nodes": 2, "tasks_per_node": 2, "memory_gb": 3}
    whole, stopped = (
        cluster.drive("train", output, seconds, resources=resources, distributed=True)
        for output, seconds in zip(outputs, (0.0, 0.5), strict=True)
    )
    job = cluster.running(outputs[1])
    cluster.command("scancel", "--signal=USR2", job)
    torch.set_default_dtype(torch.float64)
    try:
        task_of("train", tmp_path / "alone.pt", 0.0).perform()
    finally:
        torch.set_default_dtype(torch.float32)
    alone = load_checkpoint(tmp_path / "alone.pt").model
    for process in (whole, stopped):
        cluster.finish(process)
    log = (tmp_path / "stopped" / "checkpoint.pt.log").read_text()
    assert f"SLURM job {job} goes back into the queue (time limit)" in log
    logs = [path.read_text() for path in (tmp_path / "whole").glob("slurm/*/2*/*_log.out")]
    assert len(logs) == 4
    assert {text.split("step of ")[1].split()[0] for text in logs} == {"n1", "n2"}
    # bit by bit the same when it was stopped on the way
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    for name, value in load_checkpoint(outputs[0]).model.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-7, atol=1e-9)


def test_preempted_training_is_the_same_bit_by_bit(cluster, tmp_path):
    output = tmp_path / "job" / "checkpoint.pt"
    process = cluster.drive(
        "train", output, 0.5, resources={"sbatch": {"nodelist": "n3", "exclusive": True}}
    )
    cluster.running(output)
    cluster.command(
        "sbatch", "--partition=high", "--nodelist=n3", "--exclusive", "--output=/dev/null",
        "--wrap=sleep 1",
    )  # fmt: skip
    try:
        task_of("train", tmp_path / "checkpoint.pt", 0.0).perform()
    finally:
        torch.set_default_dtype(torch.float32)
    cluster.finish(process)
    assert (
        "goes back into the queue (preempted)"
        in (tmp_path / "job" / "checkpoint.pt.log").read_text()
    )
    assert output.read_bytes() == (tmp_path / "checkpoint.pt").read_bytes()
