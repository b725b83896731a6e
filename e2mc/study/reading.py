"""Reads and checks study files and config.yaml; an error is one sentence with file and key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from e2mc.errors import InputError
from e2mc.study.config import Config, merged
from e2mc.study.parts import Model
from e2mc.study.study import Study

KINDS = ("linear", "finetune", "svm", "shipped", "released", "own")


class StudyError(InputError):
    """A study or configuration that cannot be used: which file and key, and what is expected."""


def load_study(name: str) -> Study:
    """Reads and checks a study: a name in studies/ or the path of a YAML file.

    Raises StudyError that names the file, the key, what was found and what is expected.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path("studies") / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in Path("studies").glob("*.yaml")))
        raise StudyError(f"study file {path} does not exist: choose one of {there or 'none'}")
    study = _checked(Study, _read_study(path), str(path))
    study._source = name
    return study


def load_config(content: dict[str, Any]) -> Config:
    """Checks the content of config.yaml (with what the command line changed)."""
    return _checked(Config, content, "config.yaml")


def read_config(**changes: Any) -> Config:
    """config.yaml, with some of its keys changed."""
    content = _read_yaml(Path("config.yaml"))
    return load_config(content | changes if isinstance(content, dict) else content)


def _read_study(path: Path) -> Any:
    """The file's content, over that of the study that its key ``extends`` names, if any."""
    content = _read_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    other = path.with_name(f"{content.pop('extends')}.yaml")
    if not other.is_file() or other == path:
        raise StudyError(f"{path}: extends: study file {other} does not exist")
    return merged(_read_study(other), content)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _checked(model: type[Model], content: Any, where: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise StudyError(
            "; ".join(_explain(model, problem, where) for problem in error.errors())
        ) from error


def _explain(model: type[Model], problem: Any, where: str) -> str:
    """One of pydantic's problems as one sentence, with a near name for a misspelt key."""
    # pydantic puts the kind of a discriminated union into the path; it is no key of the file
    data = [("data", "fashion-mnist"), ("data", "on-disk")]
    loc = [part for part in problem["loc"] if part not in KINDS]
    keys = [str(part) for before, part in zip(("", *loc), loc) if (before, part) not in data]
    key = ".".join(keys) or "the whole file"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(keys[-1], _all_keys(model), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ": remove it"
        return f"{where}: unknown key {key}{hint}"
    message = problem["msg"].removeprefix("Value error, ")
    found = ""
    if problem["type"] not in ("value_error", "missing"):
        found = f", found {problem['input']!r}"
    return f"{where}: {key}: {message}{found}"


def _all_keys(model: type[Model]) -> list[str]:
    schema = model.model_json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for item in objects for key in item.get("properties", {})})
