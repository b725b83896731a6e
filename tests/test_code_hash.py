"""The hash of a stage covers every module whose code may change what the stage makes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import e2mc
from e2mc.code_hash import STAGES, code_hash, modules

PACKAGE = Path(e2mc.__file__).parent

# where a stage begins: the step that its rules call
STEPS = {
    "data": "steps/data.py",
    "models": "steps/checkpoints.py",
    "training": "steps/training.py",
    "evaluation": "steps/evaluation.py",
    "reporting": "reporting/report.py",
}

# imported by stages, but no number depends on them
INFRASTRUCTURE = {
    "__init__.py": "the version and shortcuts to other modules",
    "code_hash.py": "these hashes",
    "identity.py": "its values are in the spec of every rule",
    "study/": "what a stage takes from a study is in the spec of its rule",
    "state.py": "writes files; the seeds that its fingerprint gives are those of the specs too",
    "errors.py": "a message",
    "progress.py": "the display",
    "interruption.py": "a run that was stopped gives what one that was not gives",
    "models/download.py": "fetches published files, whose hashes are checked",
    "steps/device.py": "which device is there",
}
OF_A_STAGE = {"reporting": {"methods/": "the names of its classes are shown, no more"}}


def infrastructure(path: Path, stage: str) -> bool:
    name = path.relative_to(PACKAGE).as_posix()
    allowed = INFRASTRUCTURE | OF_A_STAGE.get(stage, {})
    return name in allowed or f"{name.split('/')[0]}/" in allowed


def module_file(name: str) -> Path | None:
    """The file of a module of the package; None for a name that is no module of it."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    found = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    return found[0] if found and name.split(".")[0] == "e2mc" else None


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, those inside functions included, without what only a checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from executed(child)


def imported(file: Path) -> set[Path]:
    names = set()
    for node in executed(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{file}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {path for name in names if (path := module_file(name)) is not None}


def closure(files: set[Path], stage: str) -> set[Path]:
    """Everything that files import, directly or not; infrastructure is not looked into."""
    seen: set[Path] = set()
    waiting = set(files)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        if not infrastructure(file, stage):
            waiting |= imported(file) - seen
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_stage_has_all_that_it_imports(stage):
    begin = {PACKAGE / STEPS[stage], *(f for f in modules(stage) if f.suffix == ".py")}
    imports = closure(begin, stage) - set(modules(stage))
    missing = {file for file in imports if not infrastructure(file, stage)}
    assert not missing, sorted(file.relative_to(PACKAGE).as_posix() for file in missing)


def test_infrastructure_is_there():
    names = [*INFRASTRUCTURE, *(name for allowed in OF_A_STAGE.values() for name in allowed)]
    assert all((PACKAGE / name).exists() for name in names)


def test_numbers_of_the_paper_belong_to_the_tables():
    assert PACKAGE / "reporting/published.csv" in modules("reporting")


def test_hash_depends_on_the_stage():
    assert len({code_hash(stage) for stage in STAGES}) == len(STAGES)
