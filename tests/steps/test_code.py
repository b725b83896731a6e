"""The version of the code of a task covers what may change its outputs, and no remark."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from e2mc.criteria import CRITERIA
from e2mc.criteria.e2mc import E2MC
from e2mc.evaluation import PARADIGMS
from e2mc.methods import METHODS
from e2mc.reporting import parts
from e2mc.steps import code
from e2mc.steps.checkpoints import conversion_task, download_task
from e2mc.steps.code import NO_NUMBER, PACKAGE, code_of, imported, joined, name_of, version_of
from e2mc.steps.data import index_task, preparation_task
from e2mc.steps.evaluation import evaluation_code, evaluation_task
from e2mc.steps.reporting import part_task, report_task
from e2mc.steps.training import training_code, training_task
from e2mc.study import ReleasedCheckpoint, Run, load_study

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
BASE = Run("vicreg", "base", 0, None)
CONTINUED = Run("vicreg", "e2mc", 0, 1)

# neither imported by what computes nor a computation
APART = {
    "cli/": "calls the steps",
    "cluster/": "runs tasks",
    "checkpoints/inspect.py": "says what is in a file",
    "steps/reporting.py": "calls a part, whose own code is that of its task",
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def listed_in(names, file):
    return file in names or f"{file.split('/')[0]}/" in names


# --- what is no code ---


def remarked(text):
    """The same code in another layout, without comments and with a docstring everywhere."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = node.body
            if ast.get_docstring(node, clean=False) is not None:
                kept = node.body[1:] or [ast.Pass()]
            # after the imports from __future__, which must come first
            node.body = [ast.Expr(ast.Constant("Another remark.")), *kept]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n\n# the end\n"


@pytest.mark.parametrize("name", MODULES)
def test_remarks_and_layout_change_no_version(name, tmp_path):
    before = version_of(PACKAGE / name)
    text = (PACKAGE / name).read_text()
    other = tmp_path / "other.py"
    other.write_text(remarked(text))
    assert version_of(other) == before and other.read_text() != text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def f(x):\n    return x + 1\n", True),
        ("def f(x):\n    # why\n    return (x\n            + 1)\n", True),
        ('"""What."""\ndef f(x):\n    """How."""\n    return x + 1\n', True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x):\n    return 1 + x\n", False),
        ("def f(x, y=0):\n    return x + 1\n", False),
        ("def f(x):\n    return x + 1\n\n\nK = 'words'\n", False),
        ("def f(x):\n    return x + 1\n\n\nprint('words')\n", False),
    ],
)
def test_code_changes_the_version(text, same, tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("def f(x):\n    return x + 1\n")
    other.write_text(text)
    assert (version_of(one) == version_of(other)) == same


def test_every_letter_of_data_counts(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a,1\n")
    other.write_text("a,1\n\n")
    assert version_of(one) != version_of(other)


# --- what belongs to a task ---


def every_task():
    """Name -> task, of every step and every component that the studies have."""
    found = {}
    for name in sorted(path.stem for path in (REPOSITORY / "studies").glob("*.yaml")):
        study = load_study(name)
        if study.data.dataset != "fashion-mnist":
            for dataset in study.data.names:
                found[f"{name} {dataset}"] = index_task(study, dataset, None)
        else:
            found[f"{name} data"] = preparation_task(study, None)
        for base, item in study.bases.items():
            if isinstance(item.checkpoint, ReleasedCheckpoint):
                found[f"{name} download {base}"] = download_task(study, base)
            if item.converted:
                found[f"{name} convert {base}"] = conversion_task(study, base)
            for arm in study.arms:
                run = Run(base, arm, 0, 0)
                found[f"{name} {base} {arm}"] = training_task(study, run, Path("base.pt"))
            for paradigms in study.evaluation_jobs().values():
                run = Run(base, "continued", 0, 0)
                task = evaluation_task(study, run, paradigms, Path("a.pt"))
                found[f"{name} score {base} {' '.join(paradigms)}"] = task
        for part in parts(study).values():
            if not part.lacking(study):
                found[f"{name} {part.name}"] = part_task(study, part.name)
        found[f"{name} report"] = report_task(study, full=True)
    return found


def test_every_module_decides_a_number_or_says_why_not(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    covered = joined(task.code for task in every_task().values()).keys()
    # components that no study of ours uses
    covered |= code_of(*METHODS.values(), *CRITERIA.values(), *PARADIGMS.values()).keys()
    says_nothing = version_of(PACKAGE / "data/__init__.py")  # a docstring alone
    left = [
        name
        for name in MODULES
        if name not in covered
        and not listed_in(NO_NUMBER | APART, name)
        and version_of(PACKAGE / name) != says_nothing
    ]
    assert left == []
    assert not {name for name in covered if listed_in(NO_NUMBER | APART, name)}


@pytest.mark.parametrize("names", [NO_NUMBER, APART])
def test_what_decides_no_number_is_there(names):
    assert all((PACKAGE / name).exists() and why for name, why in names.items())


def test_no_import_escapes():
    """A relative import, or one by a name that is put together, would not be seen."""
    for name in MODULES:
        tree = ast.parse((PACKAGE / name).read_text())
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert all(node.level == 0 for node in nodes), f"{name}: a relative import"
    dynamic = {name for name in MODULES if "import_module" in (PACKAGE / name).read_text()}
    assert dynamic == {"__init__.py", "task.py"}  # the latter begins with a step, which is known


def test_code_has_all_that_it_imports():
    for name, task in every_task().items():
        for file in task.code:
            needed = {name_of(path) for path in imported(PACKAGE / file)}
            missing = {file for file in needed - task.code.keys() if not listed_in(NO_NUMBER, file)}
            assert not missing, name


def test_imports_inside_of_functions_count_and_those_of_a_checker_do_not():
    assert PACKAGE / "models/timm_backbone.py" in imported(PACKAGE / "models/__init__.py")
    training = imported(PACKAGE / "checkpoints/checkpoint.py")
    assert PACKAGE / "methods/__init__.py" in training
    file = PACKAGE / "cli/run.py"
    text = file.read_text()
    assert "if TYPE_CHECKING:\n    from e2mc.study import Run, Study\n    from e2mc.task" in text
    assert PACKAGE / "study/__init__.py" in imported(file)  # inside of a function
    assert PACKAGE / "task.py" not in imported(file)


def components(versions, room):
    return {name for name in versions if name.startswith(room)} - {f"{room}base.py"}


def test_code_is_that_of_the_method_the_criterion_and_the_paradigm():
    study = load_study("fashion")
    code = training_code(study, CONTINUED)
    assert components(code, "methods/") - {"methods/objective.py"} == {"methods/vicreg.py"}
    assert components(code, "criteria/") == {"criteria/e2mc.py"}
    assert components(training_code(study, BASE), "criteria/") == set()
    scores = evaluation_code(study, CONTINUED, "linear_1")
    assert not components(scores, "methods/") and not components(scores, "criteria/")
    assert "evaluation/linear.py" in scores and "evaluation/svm.py" not in scores
    measured = evaluation_code(study, CONTINUED, "embeddings")
    assert "methods/vicreg.py" in measured and "evaluation/embeddings.py" in measured
    paper = load_study("paper")
    assert "methods/simsiam.py" in conversion_task(paper, "simsiam").code
    assert "methods/vicreg.py" not in conversion_task(paper, "simsiam").code


def test_instrument_belongs_to_a_training_that_it_measures():
    er, fashion = load_study("er"), load_study("fashion")
    measured = training_code(er, Run(er.information.bases[0], "base", 0, None))
    assert "evaluation/information.py" in measured
    assert not components(training_code(fashion, BASE), "evaluation/")


def test_several_criteria_all_count():
    study = load_study("er")
    both = [a for a in study.arms if study.criterion_names(a) == ("e2mc", "er")]
    base = next(iter(study.bases))
    assert both
    code = training_code(study, Run(base, both[0], 0, 0))
    assert components(code, "criteria/") == {"criteria/e2mc.py", "criteria/er.py"}


def test_numbers_of_the_paper_belong_to_the_tables():
    task = part_task(load_study("fashion"), "table1")
    assert "reporting/published.csv" in task.code


def test_criterion_of_another_package_has_a_version(monkeypatch):
    class Mine(E2MC):
        """A criterion that lives outside the package."""

    study = load_study("fashion")
    monkeypatch.setitem(CRITERIA, "e2mc", Mine)
    versions = training_code(study, CONTINUED)
    assert {"test_code.py", "criteria/base.py", "methods/vicreg.py"} <= versions.keys()


def test_component_of_another_package(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from e2mc.criteria.mmcr import MMCR\n\n\nclass Mine(MMCR):\n    weight = 1\n")
    versions = code_of(str(file))
    assert {"mine.py", "criteria/mmcr.py", "criteria/base.py"} <= versions.keys()
    assert "criteria/vcreg.py" not in versions
    other = tmp_path / "other.py"
    other.write_text(file.read_text().replace("1", "2"))
    assert code_of(str(other))["other.py"] != versions["mine.py"]


def test_versions_of_several_are_joined():
    assert joined([{"b": "2"}, {"a": "1", "b": "2"}]) == {"a": "1", "b": "2"}


# --- what an edit changes ---


TRAINING = ("steps/training.py", "models")
EVALUATION = ("steps/evaluation.py", "models")
TASKS = {
    "plain VICReg": (*TRAINING, "methods/vicreg.py"),
    "VICReg with MMCR": (*TRAINING, "methods/vicreg.py", "criteria/mmcr.py"),
    "VICReg with VCReg": (*TRAINING, "methods/vicreg.py", "criteria/vcreg.py"),
    "DINO": (*TRAINING, "methods/dino.py"),
    "linear": (*EVALUATION, "evaluation/linear.py"),
    "k-NN": (*EVALUATION, "evaluation/knn.py"),
    "embeddings of DINO": (*EVALUATION, "evaluation/embeddings.py", "methods/dino.py"),
    "conversion of VICReg": ("steps/checkpoints.py", "models", "methods/vicreg.py"),
    "data": ("steps/data.py",),
    "table": ("reporting/tables.py", "reporting/published.csv"),
    "gains": ("reporting/gains.py", "reporting/published.csv"),
    "report": ("reporting/report.py",),
}
TRAININGS = {"plain VICReg", "VICReg with MMCR", "VICReg with VCReg", "DINO"}
SCORES = {"linear", "k-NN", "embeddings of DINO"}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package, of which the versions are."""
    folder = tmp_path / "e2mc"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", folder)
    forget()
    yield folder
    forget()


def forget():
    for kept in (code._code_of, code.version_of, code.imported):
        kept.cache_clear()


def versions():
    forget()
    return {name: code_of(*begin) for name, begin in TASKS.items()}


def edit(path):
    """Changes the first number in the code, or adds one."""
    path.write_text(path.read_text() + "\n\nADDED = 1\n")


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("criteria/vcreg.py", {"VICReg with VCReg"}),
        ("criteria/mmcr.py", {"VICReg with MMCR"}),
        ("criteria/base.py", {"VICReg with MMCR", "VICReg with VCReg"}),
        ("criteria/__init__.py", set()),
        # dino.py imports swav.py
        ("methods/swav.py", {"DINO", "embeddings of DINO"}),
        ("training/loop.py", TRAININGS),
        ("optim.py", TRAININGS | {"conversion of VICReg"}),
        ("evaluation/knn.py", {"k-NN"}),
        ("evaluation/linear.py", {"linear"}),
        ("evaluation/features.py", SCORES),
        ("evaluation/__init__.py", set()),
        ("models/small_resnet.py", TRAININGS | SCORES | {"conversion of VICReg"}),
        ("reporting/gains.py", {"gains"}),
        ("reporting/tables.py", {"table"}),
        ("reporting/statistics.py", {"table", "gains"}),
        ("reporting/__init__.py", set()),
        ("checkpoints/download.py", set()),
        ("checkpoints/released.py", {"conversion of VICReg"}),
        ("data/voc2007.py", {"data"}),
        ("data/fashion_mnist.py", {"data"}),
        ("data/views.py", TRAININGS | SCORES | {"data"}),
        ("study/study.py", set()),
        ("cli/main.py", set()),
        ("cluster/launching.py", set()),
    ],
)
def test_edited_constant_changes_what_uses_it(copied, edited, changed):
    before = versions()
    edit(copied / edited)
    after = versions()
    assert {name for name in TASKS if after[name] != before[name]} == changed
    for name in changed:
        files = {file for file in after[name] if after[name][file] != before[name].get(file)}
        assert files == {edited}


def test_new_component_changes_nothing(copied):
    before = versions()
    (copied / "criteria/fourth_moment.py").write_text("from e2mc.criteria.base import Criterion\n")
    edit(copied / "criteria/__init__.py")
    assert versions() == before


def test_these_are_the_tasks_of_the_steps():
    """What is edited above is what the steps say of their code."""
    study = load_study("fashion")
    run = Run("vicreg", "mmcr", 0, 0)
    assert training_code(study, run) == code_of(*TASKS["VICReg with MMCR"])
    assert training_code(study, BASE) == code_of(*TASKS["plain VICReg"])
    assert evaluation_code(study, run, "linear_1") == code_of(*TASKS["linear"])
    paper = load_study("paper")
    assert conversion_task(paper, "vicreg").code == code_of(*TASKS["conversion of VICReg"])
    assert preparation_task(study, None).code == code_of(*TASKS["data"])
    assert part_task(study, "gains").code == code_of(*TASKS["gains"])
    assert part_task(study, "table1").code == code_of(*TASKS["table"])
    assert report_task(study, full=False).code == code_of(*TASKS["report"])
    assert re.fullmatch("[0-9a-f]{12}", training_code(study, run)["criteria/mmcr.py"])
