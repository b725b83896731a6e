"""What this machine can run: processors, memory, GPUs, SLURM, packages, data and checkpoints.

Nothing here needs more than Python itself, so that it can say which packages are missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2mc.cli.place import unusable
from e2mc.cluster.caches import HERE, caches, writable

OK, NOTE, PROBLEM = "ok", "note", "problem"
GIB = 2**30
SECONDS = 10  # that SLURM gets to answer


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        subject: what was looked at.
        status: "ok", "note" (something optional is not there) or "problem".
        text: what was found, and what to do about a problem.
        facts: the same as plain values.
    """

    subject: str
    status: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def diagnose(study_name: str) -> list[Finding]:
    """Looks at the machine and at what the study needs. Changes nothing.

    Args:
        study_name: a name in studies/ or the path of a study file.
    """
    packages = _packages()
    findings = [_python(), *_place(), _processors(), _memory(), _disk()]
    findings += [*_gpus(packages), _slurm()]
    missing = [name for name, version in packages.items() if version is None]
    known = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    if missing:
        text = f"{', '.join(missing)} missing: pip install 'e2mc[workflow]'. Found: {known}"
        findings.append(Finding("packages", PROBLEM, text, packages))
        return findings
    findings.append(Finding("packages", OK, known, packages))
    return findings + list(_study(study_name))


def as_text(findings: Iterable[Finding]) -> str:
    """One line per finding; a problem begins with an exclamation mark."""
    marks = {OK: " ", NOTE: "-", PROBLEM: "!"}
    findings = list(findings)
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{marks[f.status]} {f.subject.ljust(width)}  {f.text}" for f in findings]
    problems = sum(finding.status == PROBLEM for finding in findings)
    summary = {0: "Nothing stands in the way.", 1: "1 problem, marked with !."}
    if not problems and any(f.subject == "study" and f.status == NOTE for f in findings):
        summary[0] = "Nothing stands in the way of the package; the workflow runs in a checkout."
    return "\n".join([*lines, summary.get(problems, f"{problems} problems, marked with !.")])


def as_data(findings: Iterable[Finding]) -> dict[str, Any]:
    """Plain values of the findings by subject."""
    return {finding.subject: asdict(finding) for finding in findings}


def _python() -> Finding:
    version = platform.python_version()
    return Finding("python", OK, f"{version} on {platform.platform()}", {"version": version})


def _place() -> Iterable[Finding]:
    """What stands in the way of the workflow in the paths of this folder and of Python."""
    for path in dict.fromkeys((os.getcwd(), sys.executable)):
        if problem := unusable(path):
            yield Finding("folder", PROBLEM, problem, {"path": path})
            return
    if not writable(caches()):
        text = f"{caches()} cannot be written: the workflow's caches go to {HERE}"
        yield Finding("caches", NOTE, text, {"path": str(caches())})


def _processors() -> Finding:
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    threads = os.environ.get("OMP_NUM_THREADS")
    text = f"{usable} of {count} cores usable" if usable < count else f"{count} cores"
    facts = {"cores": count, "usable": usable, "omp_num_threads": threads}
    return Finding("processors", OK, f"{text}: snakemake --cores {usable}", facts)


def _memory() -> Finding:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = total
    if Path("/proc/meminfo").is_file():
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        available = int(found.group(1)) * 1024 if found else total
    text = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available"
    status = OK
    if available < 3 * GIB:
        text += ": a job of the default study takes up to 3 GB, so use fewer cores"
        status = NOTE
    return Finding("memory", status, text, {"total": total, "available": available})


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    short = free < 2 * GIB
    text = f"{free / GIB:.1f} GiB free here"
    if short:
        text += ": the default study writes about 1 GB, free some space"
    return Finding("disk", PROBLEM if short else OK, text, {"free": free})


def _gpus(packages: dict[str, str | None]) -> Iterable[Finding]:
    if packages["torch"] is None:
        return
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "no GPU is visible" if built else "this PyTorch is built without CUDA"
        yield Finding("gpus", NOTE, f"none ({why}): training runs on the CPU", {"gpus": []})
        return
    gpus: list[dict[str, Any]] = []
    for number in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(number)
        capability = f"{seen.major}.{seen.minor}"
        gpus.append({"name": seen.name, "memory": seen.total_memory, "capability": capability})
    text = ", ".join(f"{gpu['name']} ({gpu['memory'] / GIB:.0f} GiB)" for gpu in gpus)
    yield Finding("gpus", OK, text, {"gpus": gpus, "cuda": torch.version.cuda})


def _slurm() -> Finding:
    if shutil.which("sbatch") is None:
        return Finding("slurm", NOTE, "no sbatch here: launcher: local", {"available": False})
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%P %a %D %G"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        text = f"sbatch is there, but sinfo fails ({said[-1] if said else error})"
        return Finding("slurm", NOTE, text, {"available": False})
    partitions = [
        dict(zip(("partition", "state", "nodes", "gres"), line.split(), strict=False))
        for line in answer.splitlines()
    ]
    text = "; ".join(" ".join(partition.values()) for partition in partitions)
    facts = {"available": True, "partitions": partitions}
    return Finding("slurm", OK, f"partitions (state, nodes, GPUs): {text}", facts)


def _packages() -> dict[str, str | None]:
    """Versions of what e2mc and its extra "workflow" require; None for what is missing."""
    names = []
    for requirement in importlib.metadata.requires("e2mc") or ():
        text, _, condition = requirement.partition(";")
        if not condition or re.search(r"extra == .workflow.", condition):
            names.append(re.split(r"[^\w.-]", text.strip())[0])
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _study(name: str) -> Iterable[Finding]:
    from e2mc.study import StudyError, load_study

    try:
        study = load_study(name)
    except StudyError as error:
        if Path("studies").is_dir():
            yield Finding("study", PROBLEM, str(error))
        else:
            text = f"no studies/ in {Path.cwd()}: go to a checkout of the repository to run one"
            yield Finding("study", NOTE, text)
        return
    yield Finding("study", OK, f"{study.name}: {study.title}", {"study": study.name})
    for name, sentence in study.left_out.items():
        yield Finding(name, NOTE, sentence)
    yield _prepared(study)
    yield from _checkpoints(study)


def _prepared(study: Any) -> Finding:
    paths = {name: study.dataset_path(name) for name in study.data.names}
    there = [str(path) for path in paths.values() if path.exists()]
    facts = {name: path.exists() for name, path in paths.items()}
    if len(there) == len(paths):
        return Finding("data", OK, ", ".join(there), facts)
    text = "not prepared yet: snakemake does it"
    return Finding("data", NOTE, text, facts)


def _checkpoints(study: Any) -> Iterable[Finding]:
    from e2mc.checkpoints.checkpoint import CheckpointError
    from e2mc.steps.checkpoints import verify_shipped
    from e2mc.study import ShippedCheckpoint

    good = []
    for base, recipe in study.bases.items():
        if not isinstance(recipe.checkpoint, ShippedCheckpoint):
            continue
        for seed in study.seeds.base:
            if recipe.trained_for(seed):
                continue
            try:
                good.append(str(verify_shipped(study, base, seed)))
            except CheckpointError as error:
                yield Finding(f"checkpoint {base}", PROBLEM, str(error))
    if good:
        text = f"{len(good)} shipped, with the SHA-256 that the study names"
        yield Finding("checkpoints", OK, text, {"paths": good})
