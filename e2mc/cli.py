"""`e2mc`: every step of the workflow by hand, with the same functions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from e2mc.launching import EXPECTED_ERRORS
from e2mc.launching import run as launch
from e2mc.slurm import Resources
from e2mc.state import fingerprint
from e2mc.study import (
    BASE_ARM,
    Config,
    FineTune,
    LaunchedRule,
    Run,
    ShippedCheckpoint,
    Study,
    code_hash,
    load_study,
    read_config,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 1 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.command(load_study(options.study), options)
    except EXPECTED_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="e2mc", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.add_argument("--study", default="fashion", help="name in studies/ or path")
        added.set_defaults(command=function)
        return added

    command("data", _data, "fetch, check and split the images").add_argument(
        "--folder", type=Path, help="folder with the published files; fetched without it"
    )
    pretrain = command("pretrain", _pretrain, "pre-train a base from random weights")
    continued = command("continue", _continue, "continue the pre-training of a base")
    evaluate = command("evaluate", _evaluate, "score a run under a paradigm")
    for added in (pretrain, continued, evaluate):
        added.add_argument("--base", required=True)
        added.add_argument("--base-seed", type=int, default=0)
        added.add_argument("--device", default="auto")
        added.add_argument(
            "--launcher",
            choices=("local", "slurm"),
            default="local",
            help="slurm: as a job, with the resources of config.yaml",
        )
    for added in (continued, evaluate):
        added.add_argument("--arm", required=True, help="e.g. continued, e2mc")
        added.add_argument("--seed", type=int, default=0, help="of the continued pre-training")
    evaluate.add_argument("--paradigm", required=True, help="e.g. linear_1, semisup_10")
    schema = command("schema", _schema, "print the JSON schema of study files or of config.yaml")
    schema.add_argument("--of", choices=("study", "config"), default="study")
    command("where", _where, "say where the tables, figures and the report are")
    return parser


def _data(study: Study, options: argparse.Namespace) -> None:
    from e2mc.steps import prepare_data

    outputs = {name: study.dataset_path(name) for name in study.data.names}
    prepare_data(study, options.folder, study.root / "data" / "downloads", outputs)


def _pretrain(study: Study, options: argparse.Namespace) -> None:
    run = _run(study, options, BASE_ARM)
    output = study.retrained_path(run.base, run.base_seed)
    _train(study, run, None, output, "pretrain_base", options)


def _continue(study: Study, options: argparse.Namespace) -> None:
    run = _run(study, options, options.arm)
    if run.arm == BASE_ARM:
        raise ValueError("the arm 'base' is the base itself: use `e2mc pretrain`")
    output = study.checkpoint_path(run)
    start = _base_checkpoint(study, run)
    _train(study, run, start, output, "continue_pretraining", options)


def _train(
    study: Study,
    run: Run,
    start: Path | None,
    output: Path,
    rule: LaunchedRule,
    options: argparse.Namespace,
) -> None:
    from e2mc.steps import train, training_identity

    launch(
        train,
        study,
        run,
        start,
        _needed(study, "images"),
        output,
        options.device,
        outputs=[output, output.with_name("training.csv")],
        spec=f"{fingerprint(training_identity(study, run))} {code_hash('training')}",
        resources=_resources(rule, options),
        distributed=True,
    )
    print(output)


def _resources(rule: LaunchedRule, options: argparse.Namespace) -> Resources | None:
    """What a job gets from SLURM; None where the step runs in this process."""
    if options.launcher == "local":
        return None
    return read_config(launcher=options.launcher).resources(rule)


def _evaluate(study: Study, options: argparse.Namespace) -> None:
    from e2mc import steps

    run = _run(study, options, options.arm)
    if options.paradigm not in study.paradigms:
        raise ValueError(
            f"paradigm {options.paradigm!r} does not exist, expected one of "
            f"{', '.join(study.paradigms)}"
        )
    is_base = run.arm == BASE_ARM
    checkpoint = _base_checkpoint(study, run) if is_base else study.checkpoint_path(run)
    output = study.result_path(run, options.paradigm)
    paradigm = study.paradigms[options.paradigm]
    step, rule = steps.evaluate_frozen, "evaluate_frozen"
    if isinstance(paradigm, FineTune):
        step, rule = steps.evaluate_fine_tuned, "evaluate_fine_tuned"
    identity = {options.paradigm: steps.evaluation_identity(study, run, options.paradigm)}
    launch(
        step,
        study,
        run,
        checkpoint,
        {paradigm.dataset: _needed(study, paradigm.dataset)},
        {options.paradigm: output},
        options.device,
        outputs=[output],
        spec=f"{fingerprint(identity)} {code_hash('evaluation')}",
        resources=_resources(rule, options),
    )
    print(output)


def _schema(study: Study, options: argparse.Namespace) -> None:
    model = {"study": Study, "config": Config}[options.of]
    print(json.dumps(model.model_json_schema(), indent=2))


def _where(study: Study, options: argparse.Namespace) -> None:
    made = sorted(study.root.glob("tables/*.md")) + sorted(study.root.glob("figures/*.png"))
    made += [path for path in (study.root / "report.html",) if path.exists()]
    if not made:
        raise ValueError(f"{study.root} has no tables yet: run `snakemake --cores 2`")
    print("\n".join(str(path) for path in made))


def _run(study: Study, options: argparse.Namespace, arm: str) -> Run:
    if options.base not in study.bases:
        raise ValueError(
            f"base {options.base!r} does not exist, expected one of {', '.join(study.bases)}"
        )
    if arm not in (BASE_ARM, *study.arms):
        raise ValueError(
            f"arm {arm!r} does not exist, expected base or one of {', '.join(study.arms)}"
        )
    return Run(options.base, arm, options.base_seed, None if arm == BASE_ARM else options.seed)


def _needed(study: Study, dataset: str) -> Path:
    path = study.dataset_path(dataset)
    if not path.exists():
        raise ValueError(f"{path} does not exist: run `e2mc data --study {study.name}` first")
    return path


def _base_checkpoint(study: Study, run: Run) -> Path:
    """The re-trained or converted base where there is one, else the shipped one."""
    from e2mc.steps import verify_shipped

    if study.bases[run.base].converted:
        return study.converted_path(run.base)
    retrained = study.retrained_path(run.base, run.base_seed)
    shipped = study.bases[run.base].checkpoint
    if retrained.exists() or not isinstance(shipped, ShippedCheckpoint):
        return retrained
    path = Path(shipped.path.format(seed=run.base_seed))
    verify_shipped(path, shipped.sha256[run.base_seed])
    return path


if __name__ == "__main__":
    sys.exit(main())
