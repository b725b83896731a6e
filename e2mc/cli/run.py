"""One run of a study: its options, its files, and its tasks, here or as SLURM jobs."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.cli.command import add_study, base_of
from e2mc.cluster.console import announce
from e2mc.errors import InputError, expect_known
from e2mc.progress import stop_on_signals

if TYPE_CHECKING:
    from e2mc.study import Run, Study
    from e2mc.task import Task


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
    """The run that the options name; InputError when the study has no such base or arm."""
    from e2mc.study import BASE_ARM, Run, load_study

    study = load_study(options.study)
    base_of(study, options.base)
    expect_known(arm, (BASE_ARM, *study.arms), "arm")
    return study, Run(
        options.base, arm, options.base_seed, None if arm == BASE_ARM else options.seed
    )


def checkpoint_of(study: Study, run: Run) -> Path:
    """Where the checkpoint of any run is, the base's own included."""
    from e2mc.study import BASE_ARM

    return base_checkpoint(study, run) if run.arm == BASE_ARM else study.trained_path(run)


def base_checkpoint(study: Study, run: Run) -> Path:
    """The checkpoint that stands for the base of a run, as config.yaml says."""
    from e2mc.steps import checkpoints
    from e2mc.study import read_config

    policy = read_config().base_checkpoints
    return checkpoints.base_checkpoint(study, run.base, run.base_seed, policy, announce)


def do(task: Task, rule: str, options: argparse.Namespace) -> dict[str, Path]:
    """Does a task as its rule does, in this process or as a SLURM job; its outputs.

    Raises InputError when a file that it reads is not there.
    """
    from e2mc.cluster.launching import launch
    from e2mc.study import read_config

    for name, path in task.inputs.items():
        if not Path(path).exists():
            raise InputError(f"{path} does not exist: {_advice(name, options)}")
    resources = None
    if options.launcher == "slurm":
        resources = read_config(launcher="slurm").resources(rule)
    trains = rule in ("pretrain_base", "continue_pretraining")
    with contextlib.nullcontext() if resources else stop_on_signals():
        launch(task, resources, distributed=trains)
    return {name: Path(path) for name, path in task.outputs.items()}


def _advice(name: str, options: argparse.Namespace) -> str:
    """How to make an input of a run."""
    from e2mc.study import CountedData, load_study

    study = load_study(options.study)
    if name in study.data.names:
        command = "check-data" if isinstance(study.data, CountedData) else "data"
        return f"run `e2mc {command} --study {options.study}` first"
    of_base = f"--study {options.study} --base {options.base}"
    if study.bases[options.base].converted:
        return f"run `e2mc checkpoint convert {of_base}` first"
    arm = getattr(options, "arm", "base")
    if arm == "base":
        return f"run `e2mc pretrain {of_base} --base-seed {options.base_seed}` first"
    return f"run `e2mc continue {of_base} --arm {arm} --seed {options.seed}` first"
