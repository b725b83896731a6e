"""The version of the code: what a stage made is made again when the code of the stage changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

STAGES = {
    "data": ("data",),
    "models": ("models", "methods", "optim.py"),
    "training": ("data", "models", "methods", "criteria", "training", "entropy.py", "optim.py"),
    "evaluation": ("data", "models", "evaluation", "frozen.py", "steps/evaluation.py"),
    "reporting": ("reporting",),
}


def code_hash(stage: str) -> str:
    """Twelve hexadecimal digits that change when a module changes that computes the stage."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for part in STAGES[stage]:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(package).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
