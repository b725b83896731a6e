"""The version of the code covers every module whose code may change what is made."""

import ast
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2mc.code_hash import PACKAGE, STAGES, Code

from e2mc import code_hash

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
    "criteria/__init__.py": "lists criteria, of which a run names its own",
    "methods/__init__.py": "lists methods, of which a run names its own",
}
COMPONENTS = [
    path.relative_to(PACKAGE).as_posix()
    for folder in ("criteria", "methods")
    for path in sorted((PACKAGE / folder).glob("*.py"))
    if path.name != "__init__.py"
]


def infrastructure(path: Path) -> bool:
    name = path.relative_to(PACKAGE).as_posix()
    return name in INFRASTRUCTURE or f"{name.split('/')[0]}/" in INFRASTRUCTURE


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


@functools.cache
def imported(file: Path) -> set[Path]:
    names = set()
    for node in executed(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{file}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {path for name in names if (path := module_file(name)) is not None}


def closure(files: set[Path]) -> set[Path]:
    """Everything that files import, directly or not; infrastructure is not looked into."""
    seen: set[Path] = set()
    waiting = set(files)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        if not infrastructure(file):
            waiting |= imported(file) - seen
    return seen


@pytest.mark.parametrize(
    "code",
    [Code(stage) for stage in STAGES]
    + [
        Code(stage, (name,))
        for stage in ("models", "training", "evaluation")
        for name in COMPONENTS
    ],
    ids=lambda code: " ".join((code.stage, *code.components)),
)
def test_code_has_all_that_it_imports(code):
    covered = {*code.modules(), *code.component_files()}
    begin = {PACKAGE / STEPS[code.stage], *(file for file in covered if file.suffix == ".py")}
    missing = {file for file in closure(begin) - covered if not infrastructure(file)}
    assert not missing, sorted(file.relative_to(PACKAGE).as_posix() for file in missing)


def test_infrastructure_is_there():
    assert all((PACKAGE / name).exists() for name in INFRASTRUCTURE)


def test_numbers_of_the_paper_belong_to_the_tables():
    assert PACKAGE / "reporting/published.csv" in Code("reporting").modules()


def test_hash_depends_on_the_stage_and_the_components():
    codes = [Code(stage) for stage in STAGES]
    codes += [
        Code("training", (component,)) for component in ("criteria/mmcr.py", "methods/swav.py")
    ]
    assert len({code.hash() for code in codes}) == len(codes)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package, whose code is hashed."""
    folder = tmp_path / "e2mc"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "PACKAGE", folder)
    return folder


def edit(path):
    path.write_text(path.read_text() + "# edited\n")


RUNS = {
    "plain VICReg": Code("training", ("methods/vicreg.py",)),
    "VICReg with MMCR": Code("training", ("methods/vicreg.py", "criteria/mmcr.py")),
    "DINO": Code("training", ("methods/dino.py",)),
    "score of VICReg": Code("evaluation", ("methods/vicreg.py",)),
    "score of DINO": Code("evaluation", ("methods/dino.py",)),
    "table": Code("reporting"),
}


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("criteria/mmcr.py", {"VICReg with MMCR"}),
        ("criteria/__init__.py", set()),
        # dino.py imports swav.py
        ("methods/swav.py", {"DINO", "score of DINO"}),
        ("criteria/base.py", {"VICReg with MMCR"}),
        ("sphere.py", {*RUNS} - {"table"}),
        ("training/loop.py", {"plain VICReg", "VICReg with MMCR", "DINO"}),
        ("evaluation/linear.py", {"score of VICReg", "score of DINO"}),
        ("reporting/tables.py", {"table"}),
    ],
)
def test_edited_file_changes_what_uses_it(copied, edited, changed):
    before = {name: (code.hash(), code.versions()) for name, code in RUNS.items()}
    edit(copied / edited)
    for name, code in RUNS.items():
        hashed, versions = before[name]
        assert (code.hash() != hashed) == (name in changed), name
        assert (code.versions() != versions) == (name in changed), name


def test_new_component_changes_nothing(copied):
    before = {name: code.hash() for name, code in RUNS.items()}
    (copied / "criteria/fourth_moment.py").write_text("from e2mc.criteria.base import Criterion\n")
    edit(copied / "criteria/__init__.py")
    assert before == {name: code.hash() for name, code in RUNS.items()}


def test_versions_name_what_is_used():
    code = Code("training", ("methods/vicreg.py", "criteria/e2mc.py", "criteria/er.py"))
    assert {"training", "methods/vicreg.py"} <= code.versions().keys()
    assert {"criteria/e2mc.py", "criteria/er.py", "criteria/base.py"} <= code.versions().keys()
    assert "criteria/mmcr.py" not in code.versions()


def test_component_of_another_package(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from e2mc.criteria.mmcr import MMCR\n")
    code = Code("training", (str(file),))
    before = code.hash()
    assert {"mine.py", "criteria/mmcr.py"} <= code.versions().keys()
    edit(file)
    assert code.hash() != before
