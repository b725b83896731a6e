"""The package as its users install it."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import e2mc

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
NOT_COPIED = [".git", ".venv", ".snakemake", "results", "*.egg-info", "__pycache__", ".*_cache"]
# from below to above, as CONTRIBUTING.md has them: each imports those below it alone
ROOMS = (
    ("errors",),
    ("entropy", "distributed", "optim", "state", "progress", "task"),
    ("sphere", "cluster"),
    ("criteria", "data", "models"),
    ("methods",),
    ("checkpoints",),
    ("training", "evaluation"),
    ("study",),
    ("reporting",),
    ("steps",),
    ("cli",),
)
USE = """
import sys
import torch
from e2mc import E2MC, AUH, CorInfoMax, MMCR, VCReg, marginal_entropy
import e2mc
z1, z2 = torch.randn(2, 64, 8)
for criterion in (E2MC(), VCReg(), MMCR(), AUH(), CorInfoMax()):
    assert criterion(z1, z2).loss.isfinite()
foreign = {name.partition(".")[0] for name in sys.modules} & {"numpy", "pandas", "pydantic", "yaml"}
assert not foreign, foreign
print(e2mc.__version__, e2mc.__file__)
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and source distribution, built from a copy of the repository."""
    pytest.importorskip("build")
    source = tmp_path_factory.mktemp("source") / "e2mc"
    shutil.copytree(REPOSITORY, source, ignore=shutil.ignore_patterns(*NOT_COPIED, "build", "dist"))
    dist = source / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), cwd=source)
    return next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))


def requirements_of(name, seen):
    """The distributions that a distribution needs, itself included."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return
    try:
        needed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return  # of another platform
    seen.add(key)
    for requirement in needed:
        if "extra ==" not in requirement:
            requirements_of(re.split(r"[^\w.-]", requirement)[0], seen)


def link(name, folder):
    """Links everything that a distribution has in site-packages."""
    folder.mkdir(exist_ok=True)
    site = Path(importlib.metadata.distribution(name).locate_file(""))
    for top in {file.parts[0] for file in importlib.metadata.files(name) or []} - {".."}:
        if not (folder / top).exists():
            (folder / top).symlink_to(site / top)


@pytest.fixture(scope="module")
def with_torch_alone(tmp_path_factory):
    """A folder with PyTorch and what it needs, linked from this environment, and nothing else."""
    folder = tmp_path_factory.mktemp("torch")
    names: set[str] = set()
    requirements_of("torch", names)
    for name in names:
        link(name, folder)
    assert (folder / "torch").exists() and not (folder / "pydantic").exists()
    return folder


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_into_an_empty_environment_and_needs_torch_alone(
    kind, built, with_torch_alone, tmp_path
):
    wheel, source = built
    file = wheel if kind == "wheel" else source
    venv.create(tmp_path / "env", with_pip=False)
    python = str(tmp_path / "env/bin/python")
    options = ["--no-deps", "--no-index", "--quiet"]
    link("setuptools", tmp_path / "build")  # it would be downloaded to build an sdist
    building = {"PYTHONPATH": str(tmp_path / "build"), "PATH": "/usr/bin:/bin"}
    if kind == "sdist":
        options.append("--no-build-isolation")
    installer = (sys.executable, "-m", "pip", "--python", python)
    run(*installer, "install", *options, str(file), env=building)
    environment = {"PYTHONPATH": str(with_torch_alone), "PATH": "/usr/bin:/bin"}
    said = run(python, "-c", USE, env=environment, cwd=tmp_path)
    assert said.split() == [e2mc.__version__, said.split()[1]]
    assert str(tmp_path / "env") in said
    command = tmp_path / "env/bin/e2mc"
    assert run(command, "--version", cwd=tmp_path, env=environment) == f"e2mc {e2mc.__version__}\n"
    done = subprocess.run(
        [command, "doctor"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(
        r"! packages .*pydantic.* missing: pip install 'e2mc\[workflow\]'", done.stdout
    )


def test_wheel_holds_the_package_its_data_and_the_licence(built):
    names = zipfile.ZipFile(built[0]).namelist()
    assert {
        "e2mc/py.typed",
        "e2mc/reporting/published.csv",
        "e2mc/checkpoints/own.py",
        "e2mc/cli/main.py",
    } <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"e2mc", f"e2mc-{e2mc.__version__}.dist-info"}


def test_source_distribution_holds_the_workflow_and_the_tests(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("Snakefile", "studies/fashion.yaml", "tests/test_packaging.py", "CITATION.cff",
                   "workflow/rules/report.smk", "workflow/scripts/run.py",
                   "e2mc/checkpoints/own.py", "docs/fashion/table1.csv",
                   "checkpoints/fashion/vicreg-base0.pt"):  # fmt: skip
        assert wanted in names
    assert not any(name.endswith(".pyc") for name in names)


def test_there_is_one_version():
    assert PROJECT["dynamic"] == ["version"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == e2mc.__version__
    assert [len(reference["authors"]) for reference in citation["references"]] == [4, 8]


def imported_when_loaded(path):
    """Top-level packages that a module imports outside of functions and type checking."""

    def visit(body):
        for node in body:
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from visit(node.body + node.orelse)
            elif isinstance(node, ast.ClassDef | ast.Try):
                yield from visit(node.body)

    return set(visit(ast.parse(path.read_text()).body))


def test_every_import_is_a_requirement():
    known = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}
    extras = PROJECT["optional-dependencies"]
    stated = {
        re.split(r"[^\w-]", text)[0] for text in [*PROJECT["dependencies"], *extras["workflow"]]
    }
    for path in sorted((REPOSITORY / "e2mc").rglob("*.py")):
        foreign = imported_when_loaded(path) - set(sys.stdlib_module_names) - {"e2mc"}
        names = {known.get(name, name) for name in foreign}
        assert names <= stated, f"{path} imports {names - stated}"


def rooms_imported(path):
    """The rooms of the package that a module imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (name.split(".")[1] for name in names if name.startswith("e2mc."))


def test_direction_of_imports():
    level = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    assert level.keys() == {
        path.stem for path in (REPOSITORY / "e2mc").glob("[a-z]*") if path.suffix in (".py", "")
    }
    for path in sorted((REPOSITORY / "e2mc").rglob("*.py")):
        text = path.read_text()
        assert "import snakemake" not in text and "from snakemake" not in text, path
        room = path.relative_to(REPOSITORY / "e2mc").parts[0].removesuffix(".py")
        if room != "__init__":  # it imports what is asked for
            for other in {*rooms_imported(path)} - {room}:
                assert level[other] < level[room], f"{path} imports e2mc.{other}"
