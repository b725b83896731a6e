"""Continued self-supervised training with maximum-entropy embeddings (E2MC) and its rivals.

Public names are imported when they are first used, so `import e2mc` costs nothing and needs torch
alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "E2MC": "e2mc.criteria",
    "VCReg": "e2mc.criteria",
    "MMCR": "e2mc.criteria",
    "AUH": "e2mc.criteria",
    "CorInfoMax": "e2mc.criteria",
    "VICRegCovariance": "e2mc.criteria",
    "ER": "e2mc.criteria",
    "SIGReg": "e2mc.criteria",
    "marginal_entropy": "e2mc.entropy",
    "offdiagonal_covariance": "e2mc.entropy",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
