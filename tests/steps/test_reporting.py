"""Tables, figures and the report as tasks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from e2mc.errors import InputError
from e2mc.reporting import parts, report
from e2mc.steps import evaluation
from e2mc.steps.reporting import make_report, part_task, report_task, reporting_identity, show
from e2mc.study import Study, load_study
from e2mc.task import Task, differences

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def study():
    return load_study("fashion")


def changed(study, *changes):
    """A study in which keys, given with dots, have other values."""
    content = study.model_dump(mode="json")
    for key, value in changes:
        *path, last = key.split(".")
        part = content
        for name in path:
            part = part[name]
        part[last] = value
    return Study.model_validate(content)


def decided(study, run, paradigm):
    """What decides a result, as far as these tests change it."""
    criteria = study.training_spec(run).criteria
    weight = criteria[0].params.get("entropy_weight") if criteria else None
    return {"weight": weight, "paradigm": paradigm}


@pytest.fixture
def smoke(tmp_path, monkeypatch):
    """The smoke study in a folder with the results of its second table and nothing else."""
    monkeypatch.setattr(evaluation, "decided_by", decided, raising=False)
    for folder in ("studies", "checkpoints"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    monkeypatch.chdir(tmp_path)
    study = load_study("smoke")
    for run in study.runs(study.tables["table2"].rows):
        for name in study.tables["table2"].columns:
            write_result(study, run, name, decided_by=decided(study, run, name))
    return study


def write_result(study, run, name, **changes):
    score = {"metric": study.paradigms[name].metric, "value": 70.0, "probe_seed": 0}
    record = {
        "study": study.name,
        "base": run.base,
        "arm": run.arm,
        "base_seed": run.base_seed,
        "continuation_seed": run.continuation_seed,
        "paradigm": name,
        "scores": [score | {"features": "raw", "selection": "last", "split": "test"}],
        "decided_by": {},
        "code": {"optim.py": "1"},
        "device": "cpu",
        "wall_seconds": 1.0,
        "peak_memory_mb": 1.0,
    }
    path = study.result_path(run, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | changes), encoding="utf-8")
    return path


def test_task_names_what_a_part_reads_writes_and_rests_on(study):
    task = part_task(study, "gains")
    part = parts(study)["gains"]
    assert Task(**json.loads(json.dumps(task.as_values()))) == task
    assert list(task.inputs.values()) == [str(path) for path in part.inputs(study)]
    assert {name: Path(path) for name, path in task.outputs.items()} == part.outputs(study)
    assert task.name == "show" and task.arguments == {"study": "fashion", "part": "gains"}
    assert {"reporting/gains.py", "reporting/style.py", "reporting/published.csv"} <= {*task.code}
    # neither the registry, nor another figure, nor what makes the results
    assert {file.split("/")[0] for file in task.code} == {"reporting"}
    assert not {"reporting/__init__.py", "reporting/spectrum.py"} & {*task.code}


def test_every_part_has_a_task_or_says_what_the_study_lacks(study):
    for name, part in parts(study).items():
        if part.lacking(study):
            with pytest.raises(InputError, match="study fashion has no"):
                part_task(study, name)
        else:
            assert part_task(study, name).outputs
    with pytest.raises(InputError, match="'table9' does not exist, expected one of table1, table2"):
        part_task(study, "table9")


def test_table_is_made_from_results_alone(smoke):
    part_task(smoke, "table2").perform()
    text = Path("results/smoke/tables/table2.md").read_text(encoding="utf-8")
    assert "**70.00**" in text


def test_a_study_that_has_changed_since_is_not_shown(smoke):
    task = part_task(changed(smoke, ("title", "another")), "table2")
    with pytest.raises(InputError, match="planned there has changed: title .another. → "):
        show(task)
    assert not Path("results/smoke/tables").exists()


def test_results_of_other_values_are_not_shown(smoke):
    run = smoke.runs(smoke.tables["table2"].rows)[-1]
    column = smoke.tables["table2"].columns[0]
    before = decided(smoke, run, column)
    path = write_result(smoke, run, column, decided_by=before | {"weight": 500.0})
    said = f"{path} was made with weight 500.0, the study says .*: delete it and run again"
    with pytest.raises(InputError, match=said):
        part_task(smoke, "table2").perform()
    assert not Path("results/smoke/tables").exists()


def test_a_result_of_another_run_is_not_shown(smoke):
    run = smoke.runs(smoke.tables["table2"].rows)[-1]
    column = smoke.tables["table2"].columns[0]
    path = smoke.result_path(run, column)
    record = json.loads(path.read_text()) | {"arm": "continued"}
    path.write_text(json.dumps(record))
    said = f"{path}: is the result of {run.base} continued {run.seeds} under {column}: delete"
    with pytest.raises(InputError, match=said):
        part_task(smoke, "table2").perform()


def test_report_is_of_all_that_the_study_has(study, monkeypatch):
    short, full = (report_task(study, full) for full in (False, True))
    assert short.outputs == {"html": "results/fashion/report.html"}
    assert full.outputs == {"html": "results/fashion/full_report.html"}
    assert {*short.inputs} < {*full.inputs}
    assert {path for path in full.inputs if "ablations" in path or "convergence" in path} == {
        *full.inputs
    } - {*short.inputs}
    asked = []
    monkeypatch.setattr(report, "make_report", lambda *args: asked.append(args))
    make_report(full)
    target = Path("results/fashion/full_report.html")
    assert asked == [("fashion", target, ["all", "ablations", "convergence"])]


def test_report_that_cannot_be_made_says_what_to_finish(monkeypatch, tmp_path):
    said = subprocess.CompletedProcess([], 1, stdout="Missing\n\nfiles\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: said)
    with pytest.raises(RuntimeError, match="`snakemake all` finished. Missing files"):
        report.make_report("fashion", tmp_path / "report.html", ["all"])


def moves(study, *changes):
    return reporting_identity(study) != reporting_identity(changed(study, *changes))


@pytest.mark.parametrize(
    "change",
    [
        ("title", "another"),
        ("reported_epoch", "best"),
        ("arms.e2mc-epochs-3.reference", "continued"),
        ("arms.vcreg-quarter.variant_of", "vcreg"),
        ("arms.mmcr.label", "MMCR"),
        ("bases.vicreg.published", None),
        ("bases.vicreg.label", "another"),
        ("bases.vicreg.continued.epochs", 2),
        ("sweep.seeds", [7]),
        ("extended", False),
        ("seeds.continuation", [0]),
        ("separability.arms", ["base"]),
        ("tables.table1.published", None),
        ("convergence.columns", ["linear_1"]),
        ("rates.columns", ["linear_1"]),
        ("paradigms.linear_1.features", ["raw"]),
        ("paradigms.linear_1.label", "another"),
    ],
)
def test_tables_and_figures_follow_the_study(study, change):
    assert moves(study, change)
    assert part_task(study, "table1") != part_task(changed(study, change), "table1")


def test_tables_and_figures_do_not_follow_what_only_results_tell(study):
    assert not moves(study, ("arms.mmcr.params", {"weight": 0.5}))
    assert not moves(study, ("paradigms.linear_1.fraction", 0.02))


@pytest.mark.parametrize("key", ["arms", "bases", "paradigms"])
def test_tables_and_figures_follow_the_order(study, key):
    content = study.model_dump(mode="json")
    content[key] = dict(reversed(content[key].items()))
    other = Study.model_validate(content)
    assert reporting_identity(study) != reporting_identity(other)


def test_stability_follows_its_axes():
    er = load_study("er")
    base = er.stability.batch_size[0]
    size = er.bases[base].pretraining.batch_size
    assert moves(er, (f"bases.{base}.pretraining.batch_size", 2 * size))


def test_what_has_changed_is_named_by_its_key(study):
    title = changed(study, ("title", "another"))
    now, then = (part_task(s, "table1").decides for s in (title, study))
    assert differences(then, now) == [f'title "{study.title}" → "another"']
