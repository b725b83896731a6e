"""Reads and checks study files and config.yaml; an error is one sentence with file and key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from e2mc.errors import InputError
from e2mc.evaluation import PARADIGMS
from e2mc.study.arguments import expected, no_number
from e2mc.study.config import Config, merged
from e2mc.study.parts import AnyData, Model
from e2mc.study.study import Study

CONFIG = Path("config.yaml")
MERGE = "tag:yaml.org,2002:merge"  # of the key <<
# what data.dataset can say
DATASETS = [
    name
    for model in get_args(AnyData)
    for name in get_args(model.model_fields["dataset"].annotation)
]
KINDS = (*PARADIGMS, "shipped", "released", "own")


class StudyError(InputError):
    """A study or configuration that cannot be used: which file and key, and what is expected."""


def load_study(name: str) -> Study:
    """Reads and checks a study: a name in studies/ or the path of a YAML file.

    Raises StudyError that names the file, the key, what was found and what is expected.
    """
    path = _path_of(name)
    study = _checked(Study, _read_study(path), str(path))
    study._source = name
    return study


def load_stages(study: Study) -> list[Study]:
    """The stages of a study, in their order; their files lie beside its own."""
    if not study.source.endswith((".yaml", ".yml")):
        return [load_study(name) for name in study.stages]
    beside = [Path(study.source).with_name(f"{name}.yaml") for name in study.stages]
    return [load_study(str(path)) for path in beside]


def study_files(name: str) -> list[Path]:
    """The file of a study that can be loaded, and those that it extends, nearest first."""
    paths = [_path_of(name)]
    while extended := _read_yaml(paths[-1]).get("extends"):
        paths.append(paths[-1].with_name(f"{extended}.yaml"))
    return paths


def load_config(content: dict[str, Any]) -> Config:
    """Checks the content of config.yaml (with what the command line changed).

    Snakemake has read the file by then, without a word about keys that stand twice.
    """
    if CONFIG.is_file():
        _read_yaml(CONFIG)
    return _checked(Config, content, str(CONFIG))


def read_config(**changes: Any) -> Config:
    """config.yaml, with some of its keys changed."""
    return _checked(Config, _read_yaml(CONFIG) | changes, str(CONFIG))


def _path_of(name: str) -> Path:
    """The file of a study: a name in studies/, or a path; StudyError when there is none."""
    named = name.endswith((".yaml", ".yml"))
    path = Path(os.path.expanduser(name)) if named else Path("studies") / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in Path("studies").glob("*.yaml")))
        raise StudyError(f"study file {path} does not exist: choose one of {there or 'none'}")
    return path


def _read_study(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's content, over that of the study that its key ``extends`` names, if any."""
    content = _read_yaml(path)
    if "extends" not in content:
        return content
    name = content.pop("extends")
    other = path.with_name(f"{name}.yaml")
    chain = (*extended_by, path)
    if any(other.exists() and other.samefile(link) for link in chain):
        names = " extends ".join(str(link) for link in (*chain, other))
        raise StudyError(f"{names}: a circle has no beginning; take extends out of one of them")
    if not isinstance(name, str) or not other.is_file():
        raise StudyError(
            f"{path}: extends: study file {other} does not exist: give the name of a study in "
            f"{path.parent}, without .yaml"
        )
    return merged(_read_study(other, chain), content)


def _read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, whose keys are texts or whole numbers, each once.

    Raises StudyError for anything else.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}: line {line} is not UTF-8: save the file as UTF-8") from None
    try:
        content = yaml.load(text, _Loader)
    except _Refused as error:
        raise StudyError(f"{path}: {error}") from None
    # ValueError: dates that are none; RecursionError: brackets in thousands
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        hint = ": indent with spaces, not with tabs" if "'\\t'" in str(error) else ""
        said = " ".join(str(error).replace("<unicode string>", path.name).split())
        raise StudyError(f"{path} is not valid YAML: {said}{hint}") from error
    if content is None:
        raise StudyError(f"{path} is empty: expected keys and values")
    if not isinstance(content, dict):
        found = type(content).__name__
        raise StudyError(f"{path}: expected keys and values at the top, found a {found}")
    return content


class _Refused(yaml.YAMLError):
    """Valid YAML that would be taken for something else than what was meant."""


class _Loader(yaml.SafeLoader):
    """Refuses keys that stand twice in one mapping, of which YAML would take the last in silence.

    They are looked for where the file is read, before ``<<`` brings in keys that may be overridden.
    Keys that YAML takes for booleans, dates and the like are refused too, and an alias inside of
    what it stands for.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None
        node = super().compose_node(parent, index)
        if (
            alias is not None and node is not None and node.end_mark is None
        ):  # its end is still to come
            line = alias.start_mark.line + 1
            raise _Refused(f"line {line}: *{alias.anchor} stands inside of &{alias.anchor}")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == MERGE:
                continue
            line = key.start_mark.line + 1
            value = self.construct_object(key) if isinstance(key, yaml.ScalarNode) else key.value
            if not isinstance(value, str | int) or isinstance(value, bool):
                read = repr(value) if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
                raise _Refused(
                    f"line {line}: YAML reads this key as {read}, expected a text: put it into "
                    "quotes"
                )
            if str(value) in lines:
                raise _Refused(
                    f"line {line}: key {value} stands in line {lines[str(value)]} already, and "
                    "only one of them would count: remove or rename the other"
                )
            lines[str(value)] = line
        return node


def _checked(model: type[Model], content: Any, where: str) -> Any:
    try:
        checked = model.model_validate(content)
    except ValidationError as error:
        raise StudyError(
            "; ".join(_explain(model, problem, where) for problem in error.errors())
        ) from error
    for key in _truths_for_numbers(content, checked.model_dump()):
        raise StudyError(f"{where}: {key} must be a number, found true or false")
    return checked


def _truths_for_numbers(given: Any, taken: Any, above: str = "") -> Iterator[str]:
    """Keys whose true or false was taken for a number; YAML reads "yes" and "off" as these too."""
    if isinstance(given, dict) and isinstance(taken, dict):
        for key in given.keys() & taken.keys():
            yield from _truths_for_numbers(given[key], taken[key], f"{above}.{key}".lstrip("."))
    elif no_number(given, taken):
        yield above


def _explain(model: type[Model], problem: Any, where: str) -> str:
    """One of pydantic's problems as one sentence, with a near name for a misspelt key."""
    # pydantic puts the kind of a discriminated union into the path; it is no key of the file
    data = [("data", kind) for kind in DATASETS]
    loc = [part for part in problem["loc"] if part not in KINDS]
    keys = [str(part) for before, part in zip(("", *loc), loc) if (before, part) not in data]
    key = ".".join(keys)
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(keys[-1], _all_keys(model), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ": remove it"
        return f"{where}: unknown key {key}{hint}"
    if problem["type"] == "union_tag_invalid":
        known = problem["ctx"]["expected_tags"].replace("'", "")
        name = problem["ctx"]["discriminator"].strip("'")
        tag = problem["ctx"]["tag"]
        return f"{where}: {key}.{name}: {name} {tag!r} does not exist, expected one of {known}"
    if problem["type"] == "union_tag_not_found":
        return f"{where}: {key}: the key {problem['ctx']['discriminator']} is missing"
    message = expected(problem)
    found = ""
    if problem["type"] not in ("value_error", "missing"):
        message, found = f"must be {message}", f", found {problem['input']!r}"
    return f"{where}: {key}: {message}{found}" if keys else f"{where}: {message}{found}"


def _all_keys(model: type[Model]) -> list[str]:
    schema = model.model_json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for item in objects for key in item.get("properties", {})})
