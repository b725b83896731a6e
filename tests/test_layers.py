"""Imports go one way: from the command line down to the ground floor, and never round."""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import e2mc

PACKAGE = Path(e2mc.__file__).parent
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
# A room imports rooms of earlier lines alone; those of one line do not know each other.
LAYERS = (
    {"errors.py"},
    {"distributed.py", "entropy.py", "optim.py", "progress.py", "state.py", "task.py"},
    {"sphere.py"},
    {"criteria", "cluster"},
    {"data", "models"},
    {"methods"},
    {"checkpoints"},
    {"training", "evaluation"},
    {"study"},
    {"reporting"},
    {"steps"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# what lies on the ground floor, of which alone the cluster knows
GROUND = set().union(*LAYERS[:3])


def room_of(name):
    """Folder of a module, or the file itself at the top of the package."""
    return name.split("/")[0]


def executed(node):
    """The nodes below one, inside of functions too, without what only a checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from executed(child)


def file_of(module):
    """The file of a module of the package; None for any other name."""
    path = module.removeprefix("e2mc").strip(".").replace(".", "/")
    found = [name for name in (f"{path}.py", f"{path}/__init__.py".lstrip("/")) if name in MODULES]
    return found[0] if found and module.split(".")[0] == "e2mc" else None


@functools.cache
def imports(name):
    """The modules of the package that one imports."""
    found = set()
    for node in executed(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            for alias in node.names:
                module = file_of(f"{node.module}.{alias.name}")  # else a name in a module
                found.add(module or file_of(node.module))
    return found - {None}


def test_every_room_has_its_place():
    assert {room_of(name) for name in MODULES} - {"__init__.py"} == LEVEL.keys()


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"__init__.py"}))
def test_imports_go_down(name):
    here = room_of(name)
    # the version, which stands in the package's own module, is nothing that could lead back
    others = {room_of(other) for other in imports(name)} - {here, "__init__.py"}
    up = {other for other in others if LEVEL[other] >= LEVEL[here]}
    assert not up, f"{name} imports {', '.join(sorted(up))}"
    if here == "cluster":
        assert others <= GROUND, f"{name} imports more than the ground floor"


def test_package_itself_imports_nothing():
    assert imports("__init__.py") == set()


def circle(name, seen):
    """A chain of imports that leads from a module back to itself, if there is one."""
    waiting = [(other, (name, other)) for other in imports(name)]
    while waiting:
        at, chain = waiting.pop()
        if at == name:
            return chain
        if at not in seen:
            seen.add(at)
            waiting += [(other, (*chain, other)) for other in imports(at)]
    return ()


def test_no_import_runs_in_a_circle():
    circles = [found for name in MODULES if (found := circle(name, set()))]
    assert not circles, " imports ".join(circles[0])


def test_a_circle_would_be_seen(monkeypatch):
    chains = {"a.py": {"b.py"}, "b.py": {"c.py", "d.py"}, "c.py": {"a.py"}, "d.py": set()}
    monkeypatch.setitem(globals(), "imports", chains.get)
    assert circle("a.py", set()) == ("a.py", "b.py", "c.py", "a.py")
    assert circle("d.py", set()) == ()


def names_imported(path):
    """First parts of the names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.split(".")[0]


def test_package_never_imports_snakemake():
    found = {name for name, path in MODULES.items() if "snakemake" in names_imported(path)}
    assert found == set()


def loaded_by(statement):
    """The heavy packages that a statement loads in a fresh process."""
    heavy = ("torch", "torchvision", "numpy", "pydantic", "pandas", "matplotlib", "sklearn")
    program = f"import sys; {statement}; print(*[n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_package_costs_nothing_before_it_is_used():
    assert loaded_by("import e2mc; e2mc.__version__") == set()


@pytest.mark.parametrize(
    "name",
    ["task", *sorted(f"cluster.{Path(n).stem}" for n in MODULES if n.startswith("cluster/"))],
)
def test_tasks_are_handed_over_and_waited_for_without_torch(name):
    module = f"e2mc.{name}".removesuffix(".__init__")
    assert not loaded_by(f"import {module}") & {"torch", "torchvision", "pydantic", "pandas"}


def test_criteria_need_torch_alone():
    program = "from e2mc import E2MC, marginal_entropy, offdiagonal_covariance"
    # torch itself loads numpy where it is there
    assert loaded_by(program) - {"numpy"} == {"torch"}


def test_help_needs_no_torch():
    """The command line loads what a command needs when it is called."""
    assert loaded_by("from e2mc.cli import make_parser; make_parser().format_help()") == set()
