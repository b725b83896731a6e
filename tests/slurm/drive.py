"""Runs one step as a job: drive.py STEP OUTPUT '{"arguments": [], "resources": {}, ...}'"""

import json
import os
import sys
from pathlib import Path

import steps
import submitit.core.utils

from e2mc.cluster import launching
from e2mc.cluster.console import logged
from e2mc.cluster.slurm import Resources
from e2mc.code_hash import Code

RESOURCES = {"poll_seconds": 2, "latency_seconds": 15, "memory_gb": 1}


def main(step, output, options):
    options = json.loads(options)
    if options.get("die") == "before the record":
        launching._Submission._write_record = lambda *_: os._exit(9)
    if options.get("die") == "before the pickle has its name":
        submitit.core.utils.JobPaths.move_temporary_file = lambda *_, **__: os._exit(9)
    inputs = [Path(path) for path in options.get("inputs", [])]
    with logged(f"{output}.log"):
        launching.run(
            getattr(steps, step),
            *options.get("arguments", []),
            *inputs,
            Path(output),
            outputs=[Path(output)],
            spec=options.get("spec", "a"),
            code=Code("training"),
            distributed=options.get("distributed", False),
            resources=Resources(**RESOURCES | options["resources"]),
        )


main(*sys.argv[1:])
