"""Performs one step as a job: drive.py STEP OUTPUT '{"arguments": [], "resources": {}, ...}'"""

import json
import os
import sys
from pathlib import Path

import submitit.core.utils

from e2mc.cluster.console import logged
from e2mc.cluster.launching import launch
from e2mc.cluster.slurm import Resources
from e2mc.cluster.staging import JobFolder
from e2mc.task import Task

RESOURCES = {"poll_seconds": 2, "latency_seconds": 15, "memory_gb": 1}
LARGE = {"torch", "numpy", "pandas", "pydantic", "snakemake"}


def task_of(step, output, *arguments, inputs=(), spec="a"):
    """A task of steps.py, which is not imported: it needs PyTorch, as real steps do."""
    inputs = {Path(path).name: path for path in inputs}
    decides = {"spec": spec}
    return Task.of(f"steps:{step}", {"values": arguments}, inputs, {"out": output}, decides, {})


def main(step, output, options):
    options = json.loads(options)
    if options.get("die") == "before the record":
        JobFolder.write_record = lambda *_: os._exit(9)
    if options.get("die") == "before the pickle has its name":
        submitit.core.utils.JobPaths.move_temporary_file = lambda *_, **__: os._exit(9)
    with logged(f"{output}.log"):
        launch(
            task_of(
                step,
                output,
                *options.get("arguments", []),
                inputs=options.get("inputs", []),
                spec=options.get("spec", "a"),
            ),
            Resources(**RESOURCES | options["resources"]),
            distributed=options.get("distributed", False),
        )
        print("loaded besides:", sorted(LARGE & sys.modules.keys()))


if __name__ == "__main__":
    main(*sys.argv[1:])
