"""One run of a study: its options, its files, and a step on it, here or as a SLURM job."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc import progress
from e2mc.cli.command import add_study, base_of
from e2mc.cluster.console import announce
from e2mc.errors import InputError

if TYPE_CHECKING:
    from e2mc.code_hash import Code
    from e2mc.study import LaunchedRule, Run, Study


def add_run(parser: Any, *, arm: bool) -> None:
    """What names a run, and where it is computed; without ``arm`` the run is a base."""
    add_study(parser)
    parser.add_argument("--base", required=True, help="a base of the study, e.g. vicreg")
    parser.add_argument("--base-seed", type=int, default=0, help="of its pre-training (0)")
    if arm:
        parser.add_argument("--arm", required=True, help="e.g. base, continued, e2mc")
        parser.add_argument("--seed", type=int, default=0, help="of continued pre-training (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<number>")
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="slurm: as a job, with the resources of config.yaml (local)",
    )


def run_of(options: argparse.Namespace, arm: str) -> tuple[Study, Run]:
    """The run that the options name; ValueError when the study has no such base or arm."""
    from e2mc.study import BASE_ARM, Run, load_study

    study = load_study(options.study)
    base_of(study, options.base)
    if arm not in (BASE_ARM, *study.arms):
        raise InputError(
            f"arm {arm!r} does not exist, expected base or one of {', '.join(study.arms)}"
        )
    return study, Run(
        options.base, arm, options.base_seed, None if arm == BASE_ARM else options.seed
    )


def needed(study: Study, dataset: str) -> Path:
    """The prepared file of a data set; ValueError when it is not there."""
    from e2mc.study import OnDisk

    path = study.dataset_path(dataset)
    if not path.exists():
        command = "check-data" if isinstance(study.data, OnDisk) else "data"
        raise InputError(f"{path} does not exist: run `e2mc {command} --study {study.name}` first")
    return path


def checkpoint_of(study: Study, run: Run) -> Path:
    """Where the checkpoint of any run is, the base's own included."""
    from e2mc.study import BASE_ARM

    return base_checkpoint(study, run) if run.arm == BASE_ARM else study.checkpoint_path(run)


def base_checkpoint(study: Study, run: Run) -> Path:
    """The checkpoint that stands for the base of a run, as config.yaml says."""
    from e2mc import steps
    from e2mc.study import read_config

    policy = read_config().base_checkpoints
    return steps.base_checkpoint(study, run.base, run.base_seed, policy, announce)


def launch(
    step: Callable[..., None],
    arguments: tuple[Any, ...],
    outputs: Mapping[str, Path],
    identity: Mapping[str, Any],
    code: Code,
    rule: LaunchedRule,
    options: argparse.Namespace,
) -> None:
    """Runs a step as its rule does: in this process, or as a SLURM job."""
    from e2mc.cluster.launching import run
    from e2mc.state import fingerprint
    from e2mc.study import read_config

    trains = rule in ("pretrain_base", "continue_pretraining")
    resources = None
    if options.launcher == "slurm":
        resources = read_config(launcher="slurm").resources(rule)
    with contextlib.nullcontext() if resources else progress.stop_on_signals():
        run(
            step,
            *arguments,
            outputs=list(outputs.values()),
            spec=fingerprint(identity),
            code=code,
            resources=resources,
            distributed=trains,
        )
