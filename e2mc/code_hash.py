"""The version of the code: what a stage made is made again when the code of the stage changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

_MODELS = ("models", "methods", "criteria", "entropy.py", "optim.py", "distributed.py")

# a stage's step with all that it imports, apart from what decides no number: tests/test_code_hash
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


def modules(stage: str) -> list[Path]:
    """The files whose content decides what a stage makes."""
    package = Path(__file__).parent
    parts = [package / part for part in STAGES[stage]]
    return [
        file for path in parts for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
    ]


def code_hash(stage: str) -> str:
    """Twelve hexadecimal digits that change when a module changes that computes the stage."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in modules(stage):
        digest.update(file.relative_to(package).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
