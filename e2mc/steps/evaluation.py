"""Every score of a checkpoint, into a JSON file per paradigm."""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.images import read_digest
from e2mc.evaluation.paradigm import Found, score_with_seeds, together
from e2mc.evaluation.seeds import EvaluationSeed
from e2mc.evaluation.subject import DataSet, Subject
from e2mc.methods import METHODS
from e2mc.state import sha256, write_json
from e2mc.steps.code import code_of, joined
from e2mc.steps.decides import checkpoint_values, expect_checkpoint_of, named_run
from e2mc.steps.device import resolve_device
from e2mc.study import BASE_ARM, Run, Study
from e2mc.task import Task, plain

MADE_OF = ("code", "images", "checkpoint")  # what a result says beside what decided it


def evaluation_task(
    study: Study,
    run: Run,
    names: Iterable[str],
    checkpoint: Path,
    *,
    device: str = "auto",
    keep: Iterable[str] = (),
) -> Task:
    """Scoring a run's checkpoint under some paradigms of one job.

    Args:
        study: whose run and paradigms.
        run: what is scored.
        names: of the paradigms.
        checkpoint: of the run.
        device: where to compute.
        keep: what stays when its dependants are done, see ``Config.keep``.
    """
    names = tuple(names)
    datasets = dict.fromkeys(study.paradigm(name, run.base, run.arm).dataset for name in names)
    return Task.of(
        "e2mc.steps.evaluation:evaluate",
        {"study": study.source, **run.names(), "device": device, "keep_banks": "banks" in keep},
        {name: study.dataset_path(name) for name in datasets} | {"checkpoint": checkpoint},
        {name: study.result_path(run, name) for name in names},
        evaluation_values(study, run, names),
        joined(evaluation_code(study, run, name) for name in names),
    )


def evaluation_values(study: Study, run: Run, names: Iterable[str]) -> dict[str, Any]:
    """What decides the results of a run: how its checkpoint was made, and how it is scored."""
    return {
        "training": checkpoint_values(study, run),
        "paradigms": {
            name: _paradigm_values(study, run, name, evaluation_seeds(study, run, name))
            for name in names
        },
    }


def decided_by(study: Study, run: Run, name: str) -> dict[str, Any]:
    """What decides one result; it says so itself."""
    return plain(evaluation_values(study, run, (name,)))


def evaluation_seeds(study: Study, run: Run, name: str) -> tuple[int, ...]:
    """The evaluation seeds of a result: those that are asked for, and those that it has.

    Of the stages in one folder some ask for fewer seeds of a base than others: what one has scored
    is no reason for another to score it anew.
    """
    asked = study.evaluation_seeds(run)
    if run.arm != BASE_ARM or not study.paradigm(name, run.base, run.arm).draws:
        return asked
    return tuple(sorted({*asked, *_seeds_there(study, run, name)}))


def _seeds_there(study: Study, run: Run, name: str) -> tuple[int, ...]:
    """Those of the result that is there, if it was made with the study's other values."""
    there = _read(study.result_path(run, name)).get("decided_by", {})
    try:
        seeds = tuple(there["paradigms"][name]["evaluation"]["seeds"])
    except (KeyError, TypeError):
        return ()
    return seeds if there == _decided_under(study, run, name, seeds) else ()


def _decided_under(study: Study, run: Run, name: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    """What decides a result under some evaluation seeds."""
    values = _paradigm_values(study, run, name, seeds)
    return plain({"training": checkpoint_values(study, run), "paradigms": {name: values}})


def _paradigm_values(study: Study, run: Run, name: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    paradigm = study.paradigm(name, run.base, run.arm)
    values = {key: v for key, v in (paradigm.values() or {}).items() if key != "label"}
    if paradigm.on_embeddings:
        # what a base was trained on is not among the values of a converted one
        base = study.bases[run.base]
        values["training_views"] = list(base.views)
        values["training_normalisation"] = base.normalisation or study.data.normalisation
    if paradigm.frozen:
        values["frozen_pass"] = asdict(study.frozen_pass)
    if paradigm.draws:
        # seed 0 is in its own order anyway
        quirk = {"same_order": study.seeds.same_order} if any(seeds) else {}
        values["evaluation"] = {"seeds": list(seeds)} | quirk
    return values | study.data.decides_evaluation(paradigm.dataset)


def evaluation_code(study: Study, run: Run, name: str) -> dict[str, str]:
    """The code that scores a run under a paradigm."""
    paradigm = study.paradigm(name, run.base, run.arm)
    method = METHODS[study.bases[run.base].method.name]
    methods = [method] if paradigm.on_embeddings else []
    return code_of("steps/evaluation.py", "models", type(paradigm), *methods)


def evaluate(task: Task) -> None:
    """Scores a checkpoint; features of a data set are computed once for all paradigms.

    A result that stands, of the same checkpoint, values and code, is left as it is, unless all
    stand: then somebody wants them anew. One that lacks evaluation seeds gets these beside those it
    has. Evaluations of hours keep their state beside the results after every epoch, and the same
    call goes on from it.
    """
    study, run = named_run(task)
    checkpoint = task.input("checkpoint")
    task.expect(evaluation_task(study, run, task.outputs, checkpoint))
    made = load_checkpoint(checkpoint)
    expect_checkpoint_of(study, run, checkpoint, made)
    digest = sha256(checkpoint)
    device = resolve_device(task.arguments["device"])
    folder = task.output(next(iter(task.outputs))).parent
    base = study.bases[run.base]
    paradigms = {name: study.paradigm(name, run.base, run.arm) for name in task.outputs}
    subject = Subject(
        checkpoint,
        {
            name: DataSet(Path(path), study.data.view_of(name), study.data.normalisation_of(name))
            for name, path in task.inputs.items()
            if name != "checkpoint"
        },
        device,
        views=base.views,
        normalisation=base.normalisation or study.data.normalisation,
        what=" ".join(run.names().values()),
        states=folder,
        identity=f"{task.digest()} {digest}",
        origin=f"{digest} {joined(evaluation_code(study, run, name) for name in paradigms)}",
        frozen_pass=study.frozen_pass,
    )
    images = {name: read_digest(dataset.path) for name, dataset in subject.datasets.items()}
    heads = {
        name: {
            "study": study.folder,
            "base": run.base,
            "arm": run.arm,
            "base_seed": run.base_seed,
            "continuation_seed": run.continuation_seed,
            "paradigm": name,
            "protocol": plain(paradigms[name].values()),
            "decided_by": decided_by(study, run, name),
            "code": evaluation_code(study, run, name),
            "images": {paradigms[name].dataset: images[paradigms[name].dataset]},
            "checkpoint": {"sha256": digest, "code": made.provenance.get("code", {})},
        }
        for name in task.outputs
    }
    wanted = [
        name
        for name, head in heads.items()
        if not _says(task.output(name), **{key: head[key] for key in ("decided_by", *MADE_OF)})
    ] or list(heads)
    for group in together({name: paradigms[name] for name in wanted}):
        start = time.perf_counter()
        before = _lacking_seeds(study, run, {name: heads[name] for name in group})
        there = {name: Found(old["scores"], old["details"]) for name, old in before.items()}
        has = {score["evaluation_seed"] for found in there.values() for score in found.scores}
        every = dict.fromkeys(s for name in group for s in evaluation_seeds(study, run, name))
        seeds = [EvaluationSeed(s, study.seeds.same_order) for s in every if s not in has]
        for name, found in score_with_seeds(group, subject, seeds, there).items():
            seconds = time.perf_counter() - start
            seconds += before[name]["wall_seconds"] if name in before else 0.0
            _write_result(task.output(name), heads[name], found, device, seconds)
    subject.forget_states(keep_banks=task.arguments["keep_banks"])


def to_score(study: Study, run: Run, names: Iterable[str]) -> list[str]:
    """Which results of a job are made anew, as far as those that are there say.

    The checkpoint is not looked at: where it is another one, all are.
    """
    names = list(names)
    return [
        name
        for name in names
        if not _says(
            study.result_path(run, name),
            decided_by=decided_by(study, run, name),
            code=evaluation_code(study, run, name),
        )
    ] or names


def _says(path: Path, **expected: Any) -> bool:
    """Whether a result is there that says these things of itself."""
    there = _read(path)
    return bool(there) and all(there.get(key) == expected[key] for key in expected)


def _read(path: Path) -> dict[str, Any]:
    """A result, empty where there is none."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return there if isinstance(there, dict) else {}


def _lacking_seeds(
    study: Study, run: Run, heads: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Results of one pass that lack nothing but evaluation seeds, the same of each; else none."""
    seeds = {name: set(_seeds_there(study, run, name)) for name in heads}
    alike = all(found and found == next(iter(seeds.values())) for found in seeds.values())
    if not alike or not all(
        set(evaluation_seeds(study, run, name)) > seeds[name]
        and _says(study.result_path(run, name), **{key: head[key] for key in MADE_OF})
        for name, head in heads.items()
    ):
        return {}
    return {name: _read(study.result_path(run, name)) for name in heads}


def _write_result(
    path: Path, head: dict[str, Any], found: Found, device: str, seconds: float
) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_json(
        head
        | {
            "scores": found.scores,
            "details": found.details,
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "wall_seconds": round(seconds, 2),
            # kilobytes on Linux, bytes on macOS
            "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
        },
        path,
    )
