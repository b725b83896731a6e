"""The files of a task and its jobs: where jobs write, and how that gets to its place.

The folder ``<folder of the outputs>/slurm/<step>-<hash of the outputs' names>`` holds

- ``output/``: where jobs write, state included. Outputs are linked to their place when the step is
  done, because Snakemake removes what is in that place before it starts a rule again;
- ``done.json``: written by a job after its step, with its spec. It is what "done" means;
- ``job.json``: the record: id, spec and submission of the last job;
- ``<submission>/``: submitit's files and the logs of one submission;
- ``lock``: held while a process looks for the task's job or submits it.

A *spec* is the hash of everything that decides the outputs: the task's values and code, and the
names, sizes and times of its input files.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from e2mc.errors import InputError, MachineError
from e2mc.state import fingerprint, write_json
from e2mc.task import Task


class JobFolder:
    """The folder of a task's jobs.

    Attributes:
        task: what the jobs do; its outputs are in ``staged``.
        outputs: the files that are made, in their place, sorted.
        spec: hash of everything that decides them.
        path: the folder itself.
        staged, done: ``output/`` and ``done.json`` in it.

    Raises:
        InputError: where the outputs do not lie in one folder.
    """

    def __init__(self, task: Task) -> None:
        self.outputs = sorted(_absolute(Path(path)) for path in task.outputs.values())
        if len({path.parent for path in self.outputs}) != 1:
            raise InputError(
                f"the outputs of {task.name} must lie in one folder, found "
                f"{', '.join(task.outputs.values())}"
            )
        names = [path.name for path in self.outputs]
        self.place = self.outputs[0].parent
        self.path = self.place / "slurm" / f"{task.name}-{fingerprint({'outputs': names})[:6]}"
        self.staged, self.done = self.path / "output", self.path / "done.json"
        self._record = self.path / "job.json"
        self.task = task.moved(self.staged)
        self.spec = fingerprint({"task": task.digest(), "inputs": _states(task)})

    @property
    def name(self) -> str:
        """What messages call the task: its first output."""
        with contextlib.suppress(ValueError):
            return str(self.outputs[0].relative_to(Path.cwd()))
        return str(self.outputs[0])

    def is_done(self) -> bool:
        return read_json(self.done).get("spec") == self.spec

    def record(self) -> dict[str, Any]:
        """The last job: ``job``, ``spec`` and ``submission``; empty where there is none yet."""
        return read_json(self._record)

    def write_record(self, job: str, submission: str) -> None:
        """Notes a job whose files are in a folder of that name within this one."""
        content = {"job": job, "spec": self.spec, "submission": f"{self.path.name}/{submission}"}
        write_json(content, self._record)

    def prepare(self) -> None:
        """Makes ``staged`` ready for a new job, which may go on with what lies there.

        A step may update results that are in their place already. What a job of this spec has left
        is kept, whatever the times say: Snakemake puts back a copy of what a failed rule updates.
        """
        self.done.unlink(missing_ok=True)
        if self.record().get("spec") != self.spec:
            shutil.rmtree(self.staged, ignore_errors=True)  # a state of another spec is of no use
        for path in self.outputs:
            staged = self.staged / path.name
            if path.is_file() and not staged.exists():
                _put(path, staged)

    def collect(self) -> None:
        """Links what the step made to its place, each file whole or not at all."""
        missing = [path.name for path in self.outputs if not (self.staged / path.name).exists()]
        if missing:
            self.done.unlink(missing_ok=True)
            raise MachineError(
                f"the job for {self.name} did not write {', '.join(missing)} in {self.staged}: "
                "run the same again"
            )
        for source in _files_below(self.staged):
            _put(source, self.place / source.relative_to(self.staged))


def tidy(root: Path) -> None:
    """Forgets the tasks under ``root`` that are collected; their logs stay.

    Until then a task is done, however often Snakemake asks again; what a workflow that has ended
    asks for again is to be made again.
    """
    for done in Path(root).rglob("slurm/*/done.json"):
        folder = done.parent
        staged, place = folder / "output", folder.parent.parent
        if all(_same(path, place / path.relative_to(staged)) for path in _files_below(staged)):
            done.unlink()
            shutil.rmtree(staged)
            for pickled in folder.glob("*/*.pkl"):
                pickled.unlink()


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file that is whole or absent; empty when it is absent."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def _states(task: Task) -> dict[str, tuple[int, int]]:
    """Input file -> its size and time."""
    found = {path: Path(path).stat() for path in task.inputs.values() if Path(path).is_file()}
    return {path: (state.st_size, state.st_mtime_ns) for path, state in found.items()}


def _put(source: Path, path: Path) -> None:
    """Makes ``path`` a link to a file, or a copy; it is whole or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        os.link(source, temporary)
    except OSError:  # a file system without links
        shutil.copy2(source, temporary)
    temporary.replace(path)
    # renaming a link to the same file does nothing
    temporary.unlink(missing_ok=True)


def _files_below(folder: Path) -> list[Path]:
    """The files in a folder and below it, but for those that a killed job was writing."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if not (path.name.startswith(".") and path.suffix == ".part")]


def _same(staged: Path, place: Path) -> bool:
    """Whether a file was collected, as a link or a copy."""
    if not place.exists():
        return False
    one, other = staged.stat(), place.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _absolute(path: Path) -> Path:
    """Without links in the folder, so that one file has one name on every node."""
    return path.parent.resolve() / path.name
