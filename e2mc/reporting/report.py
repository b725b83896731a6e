"""The HTML report: Snakemake's, from what is finished."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from e2mc.errors import MachineError


def make_report(study: str, output: Path, targets: Sequence[str]) -> None:
    """Writes one HTML file with every table and figure of the targets, captions and provenance.

    Args:
        study: a name in studies/ or the path of a study file.
        output: file to write.
        targets: of the workflow; all of them must be finished.

    Raises:
        RuntimeError: when Snakemake cannot make it, with the last thing it said.
    """
    command = [sys.executable, "-m", "snakemake", "--report", str(output), "--nolock"]
    command += ["--config", f"study={study}", "--", *targets]
    output.parent.mkdir(parents=True, exist_ok=True)
    # Snakemake writes piece by piece: a killed one must not leave what looks like a report
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        output.unlink(missing_ok=True)
        said = [line for line in done.stdout.splitlines() if line.strip()]
        raise MachineError(
            f"the report of {study} could not be made, is `snakemake {' '.join(targets)}` "
            f"finished? {' '.join(said[-3:])}"
        )
