"""`e2mc`: every step of the workflow by hand, with the same functions."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc import interruption
from e2mc.errors import EXPECTED_ERRORS
from e2mc.interruption import Interrupted

if TYPE_CHECKING:
    from e2mc.study import Base, LaunchedRule, Run, Study

EXIT_STATUS = """\
exit status:
  0    done
  1    the input, the machine or the data are not as they should be: one sentence says what
  2    wrong usage
  130  interrupted; the same command goes on from the last saved state"""


@dataclass(frozen=True)
class Reply:
    """What a command has to say.

    Attributes:
        text: for people.
        data: the same for programs, printed as JSON with --json.
        ok: False for an answer that is bad news; the exit status is then 1.
    """

    text: str
    data: Any
    ok: bool = True


Command = Callable[[argparse.Namespace], Reply]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status, see ``e2mc --help``."""
    options = make_parser().parse_args(arguments)
    try:
        reply = options.command(options)
    except (KeyboardInterrupt, Interrupted) as stopped:
        said = str(stopped) or "interrupted: the same command goes on from the last saved state"
        print(said, file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(
            f"error: this command needs {error.name}: pip install 'e2mc[workflow]'",
            file=sys.stderr,
        )
        return 1
    except EXPECTED_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        print(json.dumps(reply.data, indent=2) if options.json else reply.text, flush=True)
    except BrokenPipeError:  # whoever read it, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if reply.ok else 1


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; also what shell completion is made from."""
    parser = argparse.ArgumentParser(
        prog="e2mc",
        description=__doc__,
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from e2mc import __version__

    parser.add_argument("--version", action="version", version=f"e2mc {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _training_commands(commands)
    _reporting_commands(commands)
    _checkpoint_commands(commands)
    _machine_commands(commands)
    return parser


def _add(commands: Any, name: str, command: Command, help: str, example: str) -> Any:
    """A subcommand with its help, an example and --json."""
    added = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.add_argument("--json", action="store_true", help="print JSON for programs")
    added.set_defaults(command=command)
    return added


def _add_study(parser: Any) -> None:
    parser.add_argument(
        "--study", default="fashion", help="name in studies/ or path of a study file (fashion)"
    )


def _add_run(parser: Any, *, arm: bool) -> None:
    _add_study(parser)
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


def _add_loggers(parser: Any) -> None:
    parser.add_argument(
        "--loggers",
        nargs="*",
        default=["tensorboard"],
        metavar="LOGGER",
        help="tensorboard, wandb, both or none, besides training.csv (tensorboard)",
    )


# --- data, training and evaluation ---


def _training_commands(commands: Any) -> None:
    data = _add(
        commands,
        "data",
        _data,
        "fetch, check and split the images of a study",
        "e2mc data --study fashion",
    )
    _add_study(data)
    data.add_argument("--folder", type=Path, help="with the published files; else they are fetched")
    pretrain = _add(
        commands,
        "pretrain",
        _pretrain,
        "pre-train a base from random weights",
        "e2mc pretrain --base vicreg",
    )
    _add_run(pretrain, arm=False)
    _add_loggers(pretrain)
    continued = _add(
        commands,
        "continue",
        _continue,
        "continue the pre-training of a base, with or without a criterion",
        "e2mc continue --base vicreg --arm e2mc --seed 0",
    )
    _add_run(continued, arm=True)
    _add_loggers(continued)
    evaluate = _add(
        commands,
        "evaluate",
        _evaluate,
        "score a checkpoint under one paradigm",
        "e2mc evaluate --base vicreg --arm e2mc --paradigm linear_1",
    )
    _add_run(evaluate, arm=True)
    evaluate.add_argument("--paradigm", required=True, help="of the study, e.g. linear_1")
    check = _add(
        commands,
        "check-data",
        _check_data,
        "count the images and classes of a study's data sets before a GPU is asked for",
        "e2mc check-data --study paper --decode",
    )
    _add_study(check)
    check.add_argument("--decode", action="store_true", help="also decode every image")
    separability = _add(
        commands,
        "separability",
        _separability,
        "measure separability of the features, entropies and spectrum of the embeddings",
        "e2mc separability --base swav_long --arm base",
    )
    _add_run(separability, arm=True)
    information = _add(
        commands,
        "information",
        _information,
        "measure entropy and reconstruction of the embeddings of a checkpoint",
        "e2mc information --base swav_long --arm base",
    )
    _add_run(information, arm=True)


def _data(options: argparse.Namespace) -> Reply:
    from e2mc.steps import prepare_data
    from e2mc.study import load_study

    study = load_study(options.study)
    outputs = {name: study.dataset_path(name) for name in study.data.names}
    prepare_data(study, options.folder, study.root / "data" / "downloads", outputs)
    return _written(outputs)


def _check_data(options: argparse.Namespace) -> Reply:
    from e2mc.steps import check_data
    from e2mc.study import load_study, read_config

    folders: dict[str, Path | None] = dict(read_config().data_folders.items())
    lines = check_data(load_study(options.study), folders, options.decode)
    return Reply("\n".join(lines), lines)


def _pretrain(options: argparse.Namespace) -> Reply:
    from e2mc.study import BASE_ARM

    study, run = _run(options, BASE_ARM)
    output = study.retrained_path(run.base, run.base_seed)
    return _train(study, run, None, output, "pretrain_base", options)


def _continue(options: argparse.Namespace) -> Reply:
    from e2mc.study import BASE_ARM

    study, run = _run(options, options.arm)
    if run.arm == BASE_ARM:
        raise ValueError("the arm 'base' is the base itself: use `e2mc pretrain`")
    start = _base_checkpoint(study, run)
    output = study.checkpoint_path(run)
    return _train(study, run, start, output, "continue_pretraining", options)


def _train(
    study: Study,
    run: Run,
    start: Path | None,
    output: Path,
    rule: LaunchedRule,
    options: argparse.Namespace,
) -> Reply:
    from e2mc import steps

    outputs = {"checkpoint": output, "log": output.with_name("training.csv")}
    if study.information is not None:
        outputs["information"] = output.with_name("information.csv")
    images = _needed(study, "images")
    identity = steps.training_identity(study, run)
    arguments = (study, run, start, images, output, options.device, options.loggers)
    _launch(steps.train, arguments, outputs, identity, rule, options)
    return _written(outputs)


def _evaluate(options: argparse.Namespace) -> Reply:
    from e2mc import steps
    from e2mc.study import FineTune

    study, run = _run(options, options.arm)
    name = options.paradigm
    if name not in study.paradigms:
        raise ValueError(
            f"paradigm {name!r} does not exist, expected one of {', '.join(study.paradigms)}"
        )
    paradigm = study.paradigms[name]
    datasets = {paradigm.dataset: _needed(study, paradigm.dataset)}
    outputs = {name: study.result_path(run, name)}
    arguments = (study, run, _checkpoint(study, run), datasets, outputs, options.device)
    identity = {name: steps.evaluation_identity(study, run, name)}
    rule: LaunchedRule
    if isinstance(paradigm, FineTune):
        step, rule = steps.evaluate_fine_tuned, "evaluate_fine_tuned"
    else:
        step, rule = steps.evaluate_frozen, "evaluate_frozen"
    _launch(step, arguments, outputs, identity, rule, options)
    return _results(outputs)


def _separability(options: argparse.Namespace) -> Reply:
    from e2mc import steps

    study, run = _run(options, options.arm)
    datasets = {"images": _needed(study, "images")}
    outputs = {name: study.result_path(run, name) for name in ("separability", "embeddings")}
    arguments = (study, run, _checkpoint(study, run), datasets, outputs, options.device)
    identity = {name: steps.evaluation_identity(study, run, name) for name in outputs}
    _launch(steps.measure, arguments, outputs, identity, "measure", options)
    return _results(outputs)


def _information(options: argparse.Namespace) -> Reply:
    from e2mc import steps

    study, run = _run(options, options.arm)
    outputs = {"information": study.result_path(run, "information")}
    datasets = {"images": _needed(study, "images")}
    output = outputs["information"]
    arguments = (study, run, _checkpoint(study, run), datasets, output, options.device)
    identity = {"information": steps.evaluation_identity(study, run, "information")}
    _launch(steps.measure_information, arguments, outputs, identity, "measure", options)
    return _results(outputs)


def _launch(
    step: Callable[..., None],
    arguments: tuple[Any, ...],
    outputs: Mapping[str, Path],
    identity: Mapping[str, Any],
    rule: LaunchedRule,
    options: argparse.Namespace,
) -> None:
    """Runs a step as its rule does: in this process, or as a SLURM job."""
    from e2mc.code_hash import code_hash
    from e2mc.launching import run
    from e2mc.state import fingerprint
    from e2mc.study import read_config

    trains = rule in ("pretrain_base", "continue_pretraining")
    resources = None
    if options.launcher == "slurm":
        resources = read_config(launcher="slurm").resources(rule)
    with contextlib.nullcontext() if resources else _stopped_by_signals():
        run(
            step,
            *arguments,
            outputs=list(outputs.values()),
            spec=f"{fingerprint(identity)} {code_hash('training' if trains else 'evaluation')}",
            resources=resources,
            distributed=trains,
        )


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM saves the state and stops; a second one stops at once."""

    def stop(*_: Any) -> None:
        if interruption.requested():
            raise KeyboardInterrupt
        interruption.request()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        interruption.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _written(outputs: dict[str, Path]) -> Reply:
    texts = {name: str(path) for name, path in outputs.items()}
    return Reply("\n".join(texts.values()), texts)


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


def _run(options: argparse.Namespace, arm: str) -> tuple[Study, Run]:
    from e2mc.study import BASE_ARM, Run, load_study

    study = load_study(options.study)
    _base(study, options.base)
    if arm not in (BASE_ARM, *study.arms):
        raise ValueError(
            f"arm {arm!r} does not exist, expected base or one of {', '.join(study.arms)}"
        )
    return study, Run(
        options.base, arm, options.base_seed, None if arm == BASE_ARM else options.seed
    )


def _base(study: Study, name: str) -> Base:
    if name not in study.bases:
        raise ValueError(f"base {name!r} does not exist, expected one of {', '.join(study.bases)}")
    return study.bases[name]


def _needed(study: Study, dataset: str) -> Path:
    path = study.dataset_path(dataset)
    if not path.exists():
        raise ValueError(f"{path} does not exist: run `e2mc data --study {study.name}` first")
    return path


def _checkpoint(study: Study, run: Run) -> Path:
    from e2mc.study import BASE_ARM

    return _base_checkpoint(study, run) if run.arm == BASE_ARM else study.checkpoint_path(run)


def _base_checkpoint(study: Study, run: Run) -> Path:
    """The re-trained or converted base where there is one, else the shipped one."""
    from e2mc.steps import verify_shipped
    from e2mc.study import ShippedCheckpoint

    if study.bases[run.base].converted:
        return study.converted_path(run.base)
    retrained = study.retrained_path(run.base, run.base_seed)
    shipped = study.bases[run.base].checkpoint
    if retrained.exists() or not isinstance(shipped, ShippedCheckpoint):
        return retrained
    path = Path(shipped.path.format(seed=run.base_seed))
    verify_shipped(path, shipped.sha256[run.base_seed])
    return path


# --- tables and the report ---


def _reporting_commands(commands: Any) -> None:
    table = _add(
        commands,
        "table",
        _table,
        "make a table from the results that are there, in four formats, and print one",
        "e2mc table table1",
    )
    _add_study(table)
    table.add_argument("name", help="a table of the study, e.g. table1")
    table.add_argument(
        "--format", choices=("md", "tex", "csv", "html"), default="md", help="to print (md)"
    )
    report = _add(
        commands,
        "report",
        _report,
        "make the HTML report of a finished study",
        "e2mc report --study fashion",
    )
    _add_study(report)
    where = _add(
        commands,
        "where",
        _where,
        "say where the tables, figures and the report are",
        "e2mc where --study fashion",
    )
    _add_study(where)


def _table(options: argparse.Namespace) -> Reply:
    from e2mc.reporting.results import collect
    from e2mc.reporting.tables import build_table
    from e2mc.study import load_study

    study = load_study(options.study)
    if options.name not in study.tables:
        there = ", ".join(study.tables)
        raise ValueError(f"table {options.name!r} does not exist, expected one of {there}")
    wanted = study.table_results(options.name)
    found = [path for path in wanted if path.exists()]
    if not found:
        raise ValueError(
            f"no result of {options.name} is there (e.g. {wanted[0]}): run "
            f"`snakemake {options.name}`, or single ones with `e2mc evaluate`"
        )
    table = build_table(study, options.name, collect(found))
    paths = table.save(study.root / "tables" / options.name)
    rows = [entry.flat() for entry in table.entries]
    rows = [{k: None if v != v else v for k, v in row.items()} for row in rows]  # NaN is no JSON
    files = {kind: str(path) for kind, path in paths.items()}
    text = paths[options.format].read_text(encoding="utf-8").rstrip("\n")
    return Reply(text, {"files": files, "verdict": table.verdict, "cells": rows})


def _report(options: argparse.Namespace) -> Reply:
    from e2mc.reporting.report import make_report
    from e2mc.study import load_study

    output = load_study(options.study).root / "report.html"
    make_report(options.study, output, ["all"])
    return _written({"report": output})


def _where(options: argparse.Namespace) -> Reply:
    from e2mc.study import load_study

    study = load_study(options.study)
    made = sorted(study.root.glob("tables/*.md")) + sorted(study.root.glob("figures/*.png"))
    made += [path for path in (study.root / "report.html",) if path.exists()]
    if not made:
        raise ValueError(f"{study.root} has no tables yet: run `snakemake --cores 2`")
    return Reply("\n".join(map(str, made)), [str(path) for path in made])


# --- checkpoint files ---


def _checkpoint_commands(commands: Any) -> None:
    group = commands.add_parser("checkpoint", help="download, convert or inspect checkpoint files")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    download = _add(
        actions,
        "download",
        _download,
        "download a base's released checkpoint, going on where an attempt stopped, and check it",
        "e2mc checkpoint download --study paper --base vicreg",
    )
    convert = _add(
        actions,
        "convert",
        _convert,
        "convert a base's released checkpoint, or your own, to this package's format",
        "e2mc checkpoint convert --study paper --base vicreg",
    )
    for parser in (download, convert):
        _add_study(parser)
        parser.add_argument("--base", required=True, help="a base of the study, e.g. vicreg")
    inspect = _add(
        actions,
        "inspect",
        _inspect,
        "say what is in a checkpoint file of any known format",
        "e2mc checkpoint inspect checkpoints/fashion/vicreg-base0.pt",
    )
    inspect.add_argument("file", type=Path)


def _download(options: argparse.Namespace) -> Reply:
    from dataclasses import asdict

    from e2mc.models.download import download
    from e2mc.study import ReleasedCheckpoint, load_study

    study = load_study(options.study)
    released = _base(study, options.base).checkpoint
    if not isinstance(released, ReleasedCheckpoint):
        raise ValueError(f"base {options.base!r} of study {study.name} is no released checkpoint")
    path = study.download_path(options.base)
    source = download(released.url, path, expected_sha256=released.sha256)
    text = f"{path}: {source.size:,} bytes, SHA-256 {source.sha256}"
    return Reply(text, {"file": str(path), **asdict(source)})


def _convert(options: argparse.Namespace) -> Reply:
    from e2mc.steps import convert_base
    from e2mc.study import OwnCheckpoint, load_study

    study = load_study(options.study)
    base = _base(study, options.base)
    if not base.converted:
        raise ValueError(f"base {options.base!r} of study {study.name} needs no conversion")
    original = study.download_path(options.base)
    if isinstance(base.checkpoint, OwnCheckpoint):
        original = Path(base.checkpoint.path)
    elif not original.exists():
        raise ValueError(
            f"{original} does not exist: run `e2mc checkpoint download --study {study.name} "
            f"--base {options.base}` first"
        )
    output = study.converted_path(options.base)
    convert_base(study, options.base, original, output)
    return _written({"checkpoint": output})


def _inspect(options: argparse.Namespace) -> Reply:
    from e2mc.models.released import inspect_checkpoint

    found = inspect_checkpoint(options.file)
    lines = [f"{name:14} {_in_words(value)}" for name, value in found.items()]
    return Reply("\n".join(lines), found)


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_in_words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else f"{value:,}" if type(value) is int else str(value)


# --- this machine and this program ---


def _machine_commands(commands: Any) -> None:
    doctor = _add(
        commands,
        "doctor",
        _doctor,
        "say what this machine can run and what is missing",
        "e2mc doctor --study fashion",
    )
    _add_study(doctor)
    estimate = _add(
        commands,
        "estimate",
        _estimate,
        "estimate GPU-hours and disk space of every row of the tables",
        "e2mc estimate --study paper --rate vicreg=900 swav=500 simsiam=900 features=3000 "
        "fine-tuning=1500",
    )
    _add_study(estimate)
    rates = estimate.add_mutually_exclusive_group(required=True)
    rates.add_argument("--rates", type=Path, help="CSV file of measured images per second")
    rates.add_argument(
        "--rate",
        type=_rate,
        nargs="+",
        metavar="WHAT=NUMBER",
        help="images per second of one GPU: each method, features, fine-tuning",
    )
    schema = _add(
        commands,
        "schema",
        _schema,
        "print the JSON schema of study files or of config.yaml",
        "e2mc schema --of config",
    )
    schema.add_argument("--of", choices=("study", "config"), default="study", help="(study)")
    completion = _add(
        commands,
        "completion",
        _completion,
        "print a script that makes the shell complete e2mc's commands and options",
        'eval "$(e2mc completion bash)"',
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _doctor(options: argparse.Namespace) -> Reply:
    from e2mc.doctor import PROBLEM, as_data, as_text, diagnose

    findings = diagnose(options.study)
    ok = all(finding.status != PROBLEM for finding in findings)
    return Reply(as_text(findings), as_data(findings), ok)


def _rate(text: str) -> tuple[str, float]:
    """One WHAT=NUMBER of --rate."""
    what, _, number = text.partition("=")
    try:
        return what, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected WHAT=NUMBER, e.g. vicreg=900, found {text!r}"
        ) from None


def _estimate(options: argparse.Namespace) -> Reply:
    from e2mc.estimate import Rates, estimate, read_rates
    from e2mc.study import load_study, read_config

    rates = read_rates(options.rates) if options.rates else Rates(dict(options.rate))
    frame = estimate(load_study(options.study), rates, keep=read_config().keep)
    table = frame.to_string(index=False, float_format="{:,.1f}".format)
    data = {"rates": rates.origin, "rows": frame.to_dict(orient="records")}
    return Reply(f"{table}\n\nRates: {rates.origin}.", data)


def _schema(options: argparse.Namespace) -> Reply:
    from e2mc.study import Config, Study

    schema = (Study if options.of == "study" else Config).model_json_schema()
    return Reply(json.dumps(schema, indent=2), schema)


def _completion(options: argparse.Namespace) -> Reply:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ValueError("completion needs shtab: pip install 'e2mc[completion]'") from error
    script = shtab.complete(make_parser(), options.shell)
    return Reply(script, script)


if __name__ == "__main__":
    sys.exit(main())
