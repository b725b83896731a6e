"""A task: one step of the workflow on one subject, said once.

The rule, the command line, the SLURM job and the file that is made all take this one value. The
function that makes it stands beside its step, in ``e2mc.steps``. Nothing here needs PyTorch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from e2mc.errors import InputError

SHOWN = 3  # differences that an error names


@dataclass(frozen=True)
class Task:
    """What is made, from what, and what decides it.

    Attributes:
        step: the function that does it, ``module:name``; it is called with the task alone.
        arguments: what the step is told, plain values: the study, the run, the device.
        inputs: name -> file that is read.
        outputs: name -> file that is made, all in one folder.
        decides: the plain values that decide the outputs, apart from the inputs and the code.
        code: file of the package -> version of its code, of all the code that the outputs rest on.
    """

    step: str
    arguments: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    decides: dict[str, Any]
    code: dict[str, str]

    @classmethod
    def of(
        cls,
        step: str,
        arguments: Mapping[str, Any],
        inputs: Mapping[str, Path],
        outputs: Mapping[str, Path],
        decides: Mapping[str, Any],
        code: Mapping[str, str],
    ) -> Task:
        """A task in plain values: tuples become lists, paths their names."""
        return cls(
            step,
            plain(arguments),
            {name: str(path) for name, path in inputs.items()},
            {name: str(path) for name, path in outputs.items()},
            plain(decides),
            dict(code),
        )

    @property
    def name(self) -> str:
        """The step without its module."""
        return self.step.partition(":")[2]

    def input(self, name: str) -> Path:
        return Path(self.inputs[name])

    def output(self, name: str) -> Path:
        return Path(self.outputs[name])

    def as_values(self) -> dict[str, Any]:
        """Plain values, of which ``Task(**values)`` makes the task again."""
        return asdict(self)

    def perform(self) -> None:
        """Does the step in this process."""
        module, _, name = self.step.partition(":")
        getattr(import_module(module), name)(self)

    def moved(self, folder: Path) -> Task:
        """The same task with its outputs in another folder."""
        outputs = {name: str(folder / Path(path).name) for name, path in self.outputs.items()}
        return dataclasses.replace(self, outputs=outputs)

    @functools.cached_property
    def lines(self) -> list[str]:
        """What decides the outputs: a value and its name in each line, the code by folder."""
        values = [f"{name}: {json.dumps(value)}" for name, value in flat(self.decides)]
        folders: dict[str, list[str]] = {}
        for file, version in self.code.items():
            folder, _, name = file.rpartition("/")
            folders.setdefault(folder, []).append(f"{name} {version}")
        return values + [f"code of {name}/: {', '.join(files)}" for name, files in folders.items()]

    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any of ``lines``."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:12]

    def expect(self, now: Task) -> None:
        """Raises InputError where the study or the code has changed since the task was planned.

        Its result would be taken for that of the plan.
        """
        found = differences(self.decides, now.decides)
        changed = [
            file
            for file in sorted(self.code.keys() | now.code.keys())
            if self.code.get(file) != now.code.get(file)
        ]
        if changed:
            found.append(f"the code of {listed(changed)}")
        if found:
            raise InputError(
                f"since {self.name} of {next(iter(self.outputs.values()))} was planned there has "
                f"changed: {listed(found)}: run the same again"
            )


def plain(value: Any) -> Any:
    """The value as JSON has it: mappings, lists, text, numbers, booleans and None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    return str(value) if isinstance(value, Path) else value


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(name with dots, value) of every value; a list of plain values is one value."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, each in words: ``criteria.0.params.entropy_weight 0.1 → 1.0``."""
    old, new = dict(flat(before)), dict(flat(now))
    nothing = object()
    found = []
    for name in dict.fromkeys((*old, *new)):
        one, other = old.get(name, nothing), new.get(name, nothing)
        if one != other:
            texts = ["nothing" if v is nothing else json.dumps(v) for v in (one, other)]
            found.append(f"{name} {texts[0]} → {texts[1]}")
    return found


def expect_made_for(path: Path, said: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> None:
    """Raises InputError where a file was made with other values than the study asks for.

    A file that is there may be older than the study. Code that differs is said under the tables.

    Args:
        path: the file.
        said: what it says that decided it; None where it says nothing, such as a published one.
        wanted: what the study asks for, in plain values.
    """
    found = [] if said is None else differences(said, wanted)
    if found:
        first, *more = found
        besides = f" ({len(more)} more values differ)" if more else ""
        raise InputError(
            f"{path} was made with {first.replace(' → ', ', the study says ', 1)}{besides}: delete "
            "it and run again"
        )


def listed(items: list[str]) -> str:
    """The first few items, and how many there are besides."""
    shown = ", ".join(items[:SHOWN])
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"
