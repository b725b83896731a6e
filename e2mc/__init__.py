"""Continued self-supervised training with maximum-entropy embeddings (E2MC) and its rivals.

Public names are those of the criteria in `e2mc.criteria.CRITERIA`, and two functions. They are
imported when they are first asked for, so `import e2mc` costs nothing and needs torch alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_FUNCTIONS = {
    "marginal_entropy": "e2mc.entropy",
    "offdiagonal_covariance": "e2mc.entropy",
}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name == "__all__":
        return [*_criteria(), *_FUNCTIONS, "__version__"]
    # Python asks for modules and for its own attributes, too: those begin otherwise than a class
    # and shall not import torch.
    if name[:1].isupper() and name in (criteria := _criteria()):
        return criteria[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def _criteria() -> dict[str, type]:
    """Class of every criterion, by its name."""
    registry = import_module("e2mc.criteria").CRITERIA
    return {kind.__name__: kind for kind in registry.values()}
