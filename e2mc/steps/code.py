"""The version of the code of a task: the files that it rests on, each by what its code says.

A remark changes nothing: comments, docstrings and layout are no part of a version. A file that is
used by name from a registry (a method, a criterion, a backbone, a paradigm) belongs to the tasks
that use it and to no others, so that a new one leaves finished work as it is.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]

# imported by what computes, but no number depends on them
NO_NUMBER = {
    "__init__.py": "shortcuts to other modules",
    "errors.py": "messages",
    "progress.py": "the display; a run that was stopped gives what one that was not gives",
    "state.py": "writes and names files; a test holds the seeds of its fingerprint as they are",
    "task.py": "its values are compared themselves",
    "study/": "what a task takes from a study is among its values",
    "steps/code.py": "these versions",
    "steps/decides.py": "its values are those of tasks",
    "steps/device.py": "which device is there",
    "criteria/weights.py": "suggests weights, which are values once a study has them",
    "training/first_weights.py": "suggests weights",
    "steps/first_weights.py": "suggests weights",
    "checkpoints/export.py": "writes files for other programs",
    "checkpoints/card.py": "describes such a file",
    "steps/export.py": "calls these",
    "checkpoints/looking.py": "looks at a file, for a study to be written",
    "data/looking.py": "looks at images, for a study to be written",
    "checkpoints/download.py": "fetches published files, whose hashes are checked",
    "criteria/__init__.py": "lists criteria, of which a task names its own",
    "methods/__init__.py": "lists methods, of which a task names its own",
    "models/__init__.py": "lists backbones, of which a task names its own",
    "evaluation/__init__.py": "lists paradigms, of which a task names its own",
    "reporting/__init__.py": "lists tables and figures, of which a task names its own",
    "reporting/improvement.py": "compares results in words",
    "reporting/bundle.py": "packs what there is",
}


def code_of(*parts: str | type | Callable[..., Any]) -> dict[str, str]:
    """The files that some code rests on, itself included: name -> twelve hexadecimal digits.

    Args:
        parts: files and folders of the package, e.g. "steps/training.py"; or classes and functions,
            whose files may also lie outside of it.
    """
    return dict(_code_of(frozenset(file for part in parts for file in _files_of(part))))


@functools.cache
def _code_of(begin: frozenset[Path]) -> dict[str, str]:
    files, waiting = set(begin), list(begin)
    while waiting:
        found = {file for file in imported(waiting.pop()) if not _decides_no_number(file)}
        waiting += found - files
        files |= found
    return {name_of(file): version_of(file) for file in sorted(files)}


@functools.cache
def version_of(file: Path) -> str:
    """Twelve hexadecimal digits that change when the code of a file does."""
    text = file.read_text(encoding="utf-8")
    code = text if file.suffix != ".py" else ast.unparse(_without_docstrings(ast.parse(text)))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


@functools.cache
def imported(file: Path) -> frozenset[Path]:
    """The modules of the package that a file imports, also inside of functions."""
    if file.suffix != ".py":
        return frozenset()
    names: set[str] = set()
    for node in _statements(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found for name in names if (found := _module(name)) is not None)


def name_of(file: Path) -> str:
    """What a file is called on every machine."""
    return file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else file.name


def _files_of(part: str | type | Callable[..., Any]) -> list[Path]:
    path = PACKAGE / part if isinstance(part, str) else Path(inspect.getfile(part))
    if path.is_dir():
        return [file for file in path.glob("*.py") if not _decides_no_number(file)]
    return [path]


def _module(name: str) -> Path | None:
    """The file of a module of the package; None for any other name."""
    first, *rest = name.split(".")
    if first != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*rest)
    candidates = (
        (path.with_suffix(".py"), path / "__init__.py") if rest else (path / "__init__.py",)
    )
    return next((file for file in candidates if file.is_file()), None)


def _decides_no_number(file: Path) -> bool:
    name = name_of(file)
    return name in NO_NUMBER or f"{name.split('/')[0]}/" in NO_NUMBER


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, those inside of others too, without what only a type checker reads.

    Expressions are not looked into: there are thirty times as many.
    """
    waiting: list[ast.AST] = [tree]
    for node in waiting:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        for below in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, below, ())


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return tree


def _is_text(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def joined(codes: Iterable[dict[str, str]]) -> dict[str, str]:
    """The files of several versions together."""
    return dict(sorted({name: version for code in codes for name, version in code.items()}.items()))
