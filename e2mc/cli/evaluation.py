"""Commands that measure a checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.cli.command import Reply, add
from e2mc.cli.run import add_run, checkpoint_of, launch, needed, run_of
from e2mc.errors import InputError

if TYPE_CHECKING:
    from e2mc.study import LaunchedRule, Run, Study


def evaluation_commands(commands: Any) -> None:
    """evaluate, separability, information."""
    evaluate = add(
        commands,
        "evaluate",
        _evaluate,
        "score a checkpoint under one paradigm",
        "e2mc evaluate --base vicreg --arm e2mc --paradigm linear_1",
    )
    add_run(evaluate, arm=True)
    evaluate.add_argument("--paradigm", required=True, help="of the study, e.g. linear_1")
    separability = add(
        commands,
        "separability",
        _separability,
        "measure separability of the features, entropies and spectrum of the embeddings",
        "e2mc separability --base swav_long --arm base",
    )
    add_run(separability, arm=True)
    information = add(
        commands,
        "information",
        _information,
        "measure entropy and reconstruction of the embeddings of a checkpoint",
        "e2mc information --base swav_long --arm base",
    )
    add_run(information, arm=True)


def _evaluate(options: argparse.Namespace) -> Reply:
    from e2mc.study import FineTune

    study, run = run_of(options, options.arm)
    if options.paradigm not in study.paradigms:
        raise InputError(
            f"paradigm {options.paradigm!r} does not exist, expected one of "
            f"{', '.join(study.paradigms)}"
        )
    paradigm = study.paradigms[options.paradigm]
    rule: LaunchedRule
    rule = "evaluate_fine_tuned" if isinstance(paradigm, FineTune) else "evaluate_frozen"
    return _scored(study, run, [options.paradigm], paradigm.dataset, rule, options)


def _separability(options: argparse.Namespace) -> Reply:
    study, run = run_of(options, options.arm)
    return _scored(study, run, ["separability", "embeddings"], "images", "measure", options)


def _information(options: argparse.Namespace) -> Reply:
    study, run = run_of(options, options.arm)
    return _scored(study, run, ["information"], "images", "measure", options)


def _scored(
    study: Study,
    run: Run,
    paradigms: list[str],
    dataset: str,
    rule: LaunchedRule,
    options: argparse.Namespace,
) -> Reply:
    """Scores a run as the rule does, whose step has its name."""
    from e2mc import steps
    from e2mc.identity import evaluation_code, evaluation_identity

    datasets = {dataset: needed(study, dataset)}
    outputs = {name: study.result_path(run, name) for name in paradigms}
    identity = {name: evaluation_identity(study, run, name) for name in paradigms}
    arguments = (study, run, checkpoint_of(study, run), datasets, outputs, options.device)
    code = evaluation_code(study, run)
    launch(getattr(steps, rule), arguments, outputs, identity, code, rule, options)
    return _results(outputs)


def _results(outputs: dict[str, Path]) -> Reply:
    """Every score in a line; as JSON the result files themselves."""
    contents = {
        name: json.loads(path.read_text(encoding="utf-8")) for name, path in outputs.items()
    }
    lines = []
    for name, path in outputs.items():
        lines.append(str(path))
        for score in contents[name]["scores"]:
            kind = f"{score['features']}, {score['selection']}, {score['split']}"
            seed = f"probe seed {score['probe_seed']}"
            lines.append(f"  {score['metric']:17} {score['value']:8.3f}  ({kind}, {seed})")
    return Reply("\n".join(lines), contents)
