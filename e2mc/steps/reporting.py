"""Tables, figures and the report, from the results that are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2mc.errors import InputError, expect_known
from e2mc.reporting import made, parts, report, report_targets
from e2mc.reporting.results import ResultError, read_result, run_of
from e2mc.steps import evaluation
from e2mc.steps.code import code_of
from e2mc.steps.decides import expect_images
from e2mc.study import Study, load_study
from e2mc.task import Task, expect_made_for


def part_task(study: Study, name: str) -> Task:
    """A table or figure.

    Args:
        study: what is there.
        name: key of ``e2mc.reporting.parts(study)``.

    Raises:
        ValueError: when there is no such table or figure, or the study lacks it.
    """
    known = parts(study)
    expect_known(name, known, "table or figure")
    part = known[name]
    if lacking := part.lacking(study):
        raise InputError(lacking)
    return Task.of(
        f"{__name__}:show",
        arguments={"study": study.source, "part": name},
        inputs={str(path): path for path in part.inputs(study)},
        outputs=part.outputs(study),
        decides=reporting_identity(study),
        code=code_of(part.make, *part.rests_on),
    )


def show(task: Task) -> None:
    """Makes a table or figure."""
    study, name = load_study(task.arguments["study"]), task.arguments["part"]
    task.expect(part_task(study, name))
    expect_results(study, (path for path in map(Path, task.inputs.values()) if _is_result(path)))
    parts(study)[name].show(study, {name: Path(path) for name, path in task.outputs.items()})


def report_path(study: Study, full: bool) -> Path:
    """Of a study that shares its folder with others: a file of its own."""
    name = "full_report" if full else "report"
    return study.root / f"{name}{'' if study.folder == study.name else f'-{study.name}'}.html"


def report_task(study: Study, full: bool) -> Task:
    """The report, or the full one with ablations and curves, of a study that is finished."""
    files = [
        path for part in made(study, full=full).values() for path in part.outputs(study).values()
    ]
    return Task.of(
        f"{__name__}:make_report",
        arguments={"study": study.source, "full": full},
        inputs={str(path): path for path in files},
        outputs={"html": report_path(study, full)},
        decides={"targets": report_targets(study, full=full)},
        code=code_of("reporting/report.py"),
    )


def make_report(task: Task) -> None:
    """Makes the report of a study that is finished."""
    study = load_study(task.arguments["study"])
    now = report_task(study, task.arguments["full"])
    task.expect(now)
    report.make_report(study.source, task.output("html"), now.decides["targets"])


def expect_results(study: Study, paths: Iterable[Path]) -> None:
    """Raises InputError where a result is not what the study asks for under its path."""
    for path in paths:
        record = read_result(path)
        run, paradigm = run_of(record), record["paradigm"]
        if study.result_path(run, paradigm) != path:
            raise ResultError(
                f"{path}: is the result of {run.base} {run.arm} {run.seeds} under {paradigm}: "
                "delete it and run again"
            )
        expect_made_for(path, record["decided_by"], evaluation.decided_by(study, run, paradigm))
        expect_images(study, path, record.get("images", {}))


def _is_result(path: Path) -> bool:
    """Whether a file that a part reads is a result of an evaluation, and not a training log."""
    return path.suffix == ".json"


def reporting_identity(study: Study) -> dict[str, Any]:
    """What tables and figures read from the study besides the results.

    One for all of them: each takes seconds.
    """
    shown = {
        "title",
        "seeds",
        "extended",
        "separability",
        "tables",
        "reported_epoch",
        "sweep",
        "convergence",
        "stability",
        "frozen_pass",
    }
    content = study.model_dump(mode="json", include=shown)
    of_arms = {"label", "criterion", "criteria", "variant_of", "reference", "epochs"}
    # lists, because their order is that of rows and colours
    content["arms"] = [
        [name, arm.model_dump(mode="json", include=of_arms)] for name, arm in study.arms.items()
    ]
    content["bases"] = [
        {
            "name": name,
            "label": base.label,
            "published": base.published,
            "method": dataclasses.asdict(base.method),
            "batch_size": None if base.pretraining is None else base.pretraining.batch_size,
            "method_params": None if base.pretraining is None else base.pretraining.method_params,
            "epochs": base.continued.epochs,
        }
        for name, base in study.bases.items()
    ]
    content["paradigms"] = [
        {
            "name": name,
            "label": paradigm.label,
            "kind": paradigm.kind,
            "dataset": paradigm.dataset,
            "features": paradigm.kinds_of_features,
            "remark": paradigm.remark,
        }
        for name, paradigm in study.paradigms.items()
    ]
    content["information"] = None if study.information is None else study.information.bases
    return content
