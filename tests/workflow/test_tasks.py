"""Rule and command line make the same tasks: what Snakemake has recorded, and what e2mc does."""

from pathlib import Path

import pytest
import torch
import yaml
from checkouts import expect_recorded

from e2mc.cli import main
from e2mc.models import create_backbone
from e2mc.reporting import parts
from e2mc.steps.code import joined
from e2mc.steps.reporting import part_task, report_task
from e2mc.study import BASE_ARM, Run, load_study
from e2mc.task import Task

EVALUATED = "evaluations"


class Made(Exception):
    """A task has been made, and is not to be done."""


@pytest.fixture
def of_command(monkeypatch):
    """The task that a command makes and would do."""

    def note(task, *_, **__):
        raise Made(task)

    monkeypatch.setattr("e2mc.cluster.launching.launch", note)
    monkeypatch.setattr(Task, "perform", note)

    def task(*words):
        with pytest.raises(Made) as made:
            main([str(word) for word in words])
        return made.value.args[0]

    return task


def run_of(path, root):
    """The run that a file of a checkpoint or of a result is of."""
    room, base, *rest = path.relative_to(root).parts
    arm, seeds = (BASE_ARM, rest[0]) if room == "bases" else rest[:2]
    return Run.parse(base, arm, seeds)


def words_of(run):
    words = ["--base", run.base, "--base-seed", run.base_seed]
    if run.arm != BASE_ARM:
        words += ["--arm", run.arm, "--seed", run.continuation_seed]
    return words


def scored_by_commands(of_command, study, run, names):
    """Tasks of `e2mc evaluate`, one for each paradigm, as the one that their rule has."""
    words = [*words_of(run), *(["--arm", BASE_ARM] if run.arm == BASE_ARM else [])]
    tasks = {
        name: of_command("evaluate", "--study", study, *words, "--paradigm", name) for name in names
    }
    first = next(iter(tasks.values()))
    for task in tasks.values():
        assert task.decides["training"] == first.decides["training"]
    return Task(
        first.step,
        first.arguments,
        {name: path for task in tasks.values() for name, path in task.inputs.items()},
        {name: path for task in tasks.values() for name, path in task.outputs.items()},
        {
            "training": first.decides["training"],
            "paradigms": {name: task.decides["paradigms"][name] for name, task in tasks.items()},
        },
        joined(task.code for task in tasks.values()),
    )


def test_every_rule_of_a_study_and_its_command_make_equal_tasks(finished, of_command, monkeypatch):
    monkeypatch.chdir(finished.folder)
    study = load_study("smoke")
    jobs = study.evaluation_jobs()
    made, seen = {}, set()
    for name, record in finished.recorded().items():
        path, rule = Path(name), record["rule"]
        room = path.relative_to(study.root).parts[0]
        if room == "logs" or room == "benchmarks":
            continue
        if room in ("bases", "continued", EVALUATED):
            run = run_of(path, study.root)
            key = rule, run
        else:
            run, key = None, rule
        if key not in made:
            if rule == "prepare_data":
                task = of_command("data", "--study", "smoke")
            elif rule == "pretrain_base":
                task = of_command("pretrain", "--study", "smoke", *words_of(run))
            elif rule == "continue_pretraining":
                task = of_command("continue", "--study", "smoke", *words_of(run))
            elif rule in jobs:
                task = scored_by_commands(of_command, "smoke", run, jobs[rule])
            elif rule == "report":
                task = of_command("report", "--study", "smoke")
                assert task == report_task(study, full=False)
            else:
                task = part_task(study, rule)
            made[key] = task
        expect_recorded(record, made[key])
        assert name in made[key].outputs.values()
        seen.add(rule)
    computing = {"prepare_data", "pretrain_base", "continue_pretraining", *jobs}
    assert computing - {"measure_information"} <= seen and "report" in seen
    assert {name for name, part in parts(study).items() if part.in_all} <= seen | {
        name for name, part in parts(study).items() if part.lacking(study)
    }
    # every file that a task names is there, and was recorded
    outputs = {path for task in made.values() for path in task.outputs.values()}
    assert outputs <= finished.recorded().keys() and all(Path(path).exists() for path in outputs)


def test_short_commands_make_the_tasks_of_their_rules(copy_of_finished, of_command, monkeypatch):
    monkeypatch.chdir(copy_of_finished.folder)
    study = load_study("smoke")
    run = Run(study.separability.base, BASE_ARM, 0, None)
    # the study measures information along its trainings, and no checkpoint
    target = str(study.result_path(run, "information"))
    done = copy_of_finished.snakemake("--cores", "1", target)
    assert done.returncode == 0, done.stdout
    recorded = copy_of_finished.recorded()
    words = ("--study", "smoke", "--base", run.base, "--arm", BASE_ARM)
    task = of_command("information", *words)
    assert list(task.outputs) == list(study.evaluation_jobs()["measure_information"])
    expect_recorded(recorded[target], task)
    # of images in memory, the measurements are part of a larger job
    task = of_command("separability", *words)
    assert list(task.outputs) == ["separability", "embeddings"]
    assert {recorded[path]["rule"] for path in task.outputs.values()} == {"evaluate_frozen"}


def test_conversion_and_its_command_make_equal_tasks(checkout, of_command, monkeypatch):
    """The smoke study has no such rule; see test_bases and test_on_disk for downloads and lists."""
    torch.save(create_backbone("resnet-small", 1).state_dict(), checkout.folder / "mine.pt")
    content = {
        "extends": "smoke",
        "name": "own",
        "bases": {"swav_long": {"checkpoint": {"kind": "own", "path": "mine.pt"}}},
    }
    (checkout.folder / "studies/own.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(checkout.folder)
    study = load_study("own")
    target = str(study.converted_path("swav_long"))
    done = checkout.snakemake("--cores", "1", target, study="own")
    assert done.returncode == 0, done.stdout
    task = of_command("checkpoint", "convert", "--study", "own", "--base", "swav_long")
    expect_recorded(checkout.recorded()[target], task)
