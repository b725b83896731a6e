"""The version of the code: what was made is made again when the code that makes it changes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent

_MODELS = ("models", "entropy.py", "sphere.py", "optim.py", "distributed.py")

# a stage's step with all that it imports, apart from what decides no number and from components:
# tests/test_code_hash.py
STAGES = {
    "data": ("data", "steps/data.py"),
    "models": (*_MODELS, "steps/checkpoints.py"),
    "training": (
        *_MODELS,
        "data",
        "training",
        "evaluation/information.py",  # information.csv is written along a run
        "steps/training.py",
    ),
    "evaluation": (*_MODELS, "data", "evaluation", "frozen.py", "steps/evaluation.py"),
    "reporting": ("reporting", "reporting/published.csv"),
}

# Folders with a file for each method or criterion. A run depends on the files that it uses and on
# what they import, but not on the registry, so that a new one leaves finished runs as they are.
_COMPONENT = re.compile(r"^\s*(?:from|import) e2mc\.(criteria|methods)\.(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Code:
    """The code that makes a file.

    Args:
        stage: key of ``STAGES``.
        components: files of the methods and criteria that are used, e.g. "criteria/e2mc.py"; the
            whole path of a file outside the package.
    """

    stage: str
    components: tuple[str, ...] = ()

    def modules(self) -> list[Path]:
        """The stage's files, without the components that it imports."""
        parts = [PACKAGE / part for part in STAGES[self.stage]]
        return [
            file
            for path in parts
            for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        ]

    def component_files(self) -> list[Path]:
        """Files of methods and criteria: those used, and whatever is imported from any other."""
        found = {PACKAGE / name for name in self.components}
        waiting = [*found, *(file for file in self.modules() if file.suffix == ".py")]
        while waiting:
            for folder, name in _COMPONENT.findall(waiting.pop().read_text(encoding="utf-8")):
                file = PACKAGE / folder / f"{name}.py"
                if file not in found:
                    found.add(file)
                    waiting.append(file)
        return sorted(found)

    def versions(self) -> dict[str, str]:
        """Twelve hexadecimal digits of the stage, by its name, and of each component, by its file.

        Each changes when a file changes that it stands for.
        """
        versions = {self.stage: _hash(self.modules())}
        for file in self.component_files():
            versions[_name(file)] = _hash([file])
        return versions

    def hash(self) -> str:
        """Twelve hexadecimal digits of all of it."""
        return _hash([*self.modules(), *self.component_files()])


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(_name(file).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _name(file: Path) -> str:
    """What a file is called on every machine."""
    return file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else file.name
