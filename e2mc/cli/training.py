"""Commands for data and training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from e2mc.cli.command import Reply, add, add_study, written
from e2mc.cli.run import add_run, base_checkpoint, do, run_of
from e2mc.errors import InputError


def training_commands(commands: Any) -> None:
    """data, check-data, pretrain, continue."""
    data = add(
        commands,
        "data",
        _data,
        "fetch, check and split the images of a study",
        "e2mc data --study fashion",
    )
    add_study(data)
    data.add_argument(
        "--folder",
        type=Path,
        help="with the published files (that of config.yaml; without one they are fetched)",
    )
    check = add(
        commands,
        "check-data",
        _check_data,
        "count the images and classes of a study's data sets before a GPU is asked for",
        "e2mc check-data --study paper --decode",
    )
    add_study(check)
    check.add_argument("--decode", action="store_true", help="also decode every image")
    pretrain = add(
        commands,
        "pretrain",
        _pretrain,
        "pre-train a base from random weights",
        "e2mc pretrain --base vicreg",
    )
    add_run(pretrain, arm=False)
    _add_loggers(pretrain)
    continued = add(
        commands,
        "continue",
        _continue,
        "continue the pre-training of a base, with or without a criterion",
        "e2mc continue --base vicreg --arm e2mc --seed 0",
    )
    add_run(continued, arm=True)
    _add_loggers(continued)


def _add_loggers(parser: Any) -> None:
    parser.add_argument(
        "--loggers",
        nargs="*",
        default=["tensorboard"],
        metavar="LOGGER",
        help="tensorboard, wandb, both or none, besides training.csv (tensorboard)",
    )


def _data(options: argparse.Namespace) -> Reply:
    from e2mc.steps.data import preparation_task
    from e2mc.study import load_study, read_config

    folder = options.folder or read_config().data_folders.get("fashion-mnist")
    task = preparation_task(load_study(options.study), folder)
    task.perform()
    return written({name: Path(path) for name, path in task.outputs.items()})


def _check_data(options: argparse.Namespace) -> Reply:
    from e2mc.steps.data import check_data
    from e2mc.study import load_study, read_config

    lines = check_data(load_study(options.study), read_config(), options.decode)
    return Reply("\n".join(lines), lines)


def _pretrain(options: argparse.Namespace) -> Reply:
    from e2mc.steps.training import training_task
    from e2mc.study import BASE_ARM

    study, run = run_of(options, BASE_ARM)
    task = training_task(study, run, None, device=options.device, loggers=options.loggers)
    return written(do(task, "pretrain_base", options))


def _continue(options: argparse.Namespace) -> Reply:
    from e2mc.steps.training import training_task
    from e2mc.study import BASE_ARM

    study, run = run_of(options, options.arm)
    if run.arm == BASE_ARM:
        raise InputError("the arm 'base' is the base itself: use `e2mc pretrain`")
    start = base_checkpoint(study, run)
    task = training_task(study, run, start, device=options.device, loggers=options.loggers)
    return written(do(task, "continue_pretraining", options))
