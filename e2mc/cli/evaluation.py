"""Commands that measure a checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from e2mc.cli.command import Reply, add
from e2mc.cli.run import add_run, checkpoint_of, do, run_of
from e2mc.cluster.console import announce
from e2mc.errors import InputError


def evaluation_commands(commands: Any) -> None:
    """evaluate, separability, information."""
    evaluate = add(
        commands,
        "evaluate",
        _evaluate,
        "score a checkpoint under one paradigm, or measure it",
        "e2mc evaluate --base vicreg --arm e2mc --paradigm linear_1",
    )
    add_run(evaluate, arm=True)
    evaluate.add_argument(
        "--paradigm",
        required=True,
        help="of the study, e.g. linear_1, or separability, embeddings, information",
    )
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
    return _scored([options.paradigm], options)


def _separability(options: argparse.Namespace) -> Reply:
    return _scored(["separability", "embeddings"], options)


def _information(options: argparse.Namespace) -> Reply:
    return _scored(["information"], options)


def _scored(paradigms: list[str], options: argparse.Namespace) -> Reply:
    """Scores a run as its rule does."""
    from e2mc.steps.evaluation import evaluation_task
    from e2mc.study import read_config

    study, run = run_of(options, options.arm)
    for name in [name for name in paradigms if name in study.left_out]:
        announce(study.left_out[name])
        paradigms.remove(name)
    if not paradigms:
        raise InputError("nothing is left to score: give the study more test images")
    rule = study.paradigm(paradigms[0], run.base).job
    checkpoint = checkpoint_of(study, run)
    keep = read_config().keep
    task = evaluation_task(study, run, paradigms, checkpoint, device=options.device, keep=keep)
    return _results(do(task, rule, options))


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
            if score["evaluation_seed"]:
                seed += f", evaluation seed {score['evaluation_seed']}"
            lines.append(f"  {score['metric']:17} {score['value']:8.3f}  ({kind}, {seed})")
    return Reply("\n".join(lines), contents)
