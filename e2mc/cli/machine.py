"""Commands about this machine and this program."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.cli.command import Reply, add, add_study
from e2mc.errors import InputError

if TYPE_CHECKING:
    from e2mc.cli.estimate import Rates
    from e2mc.study import Config, Study


def machine_commands(commands: Any, program: argparse.ArgumentParser) -> None:
    """doctor, estimate, schema, completion, which is made of the whole ``program``."""
    doctor = add(
        commands,
        "doctor",
        _doctor,
        "say what this machine can run and what is missing",
        "e2mc doctor --study fashion",
    )
    add_study(doctor)
    estimate = add(
        commands,
        "estimate",
        _estimate,
        "estimate GPU-hours, disk space and wall time of every row and stage; without rates it "
        "measures them on this machine",
        "e2mc estimate --study paper --rate vicreg=900 swav=500 simsiam=900 features=3000 "
        "fine-tuning=1500",
    )
    add_study(estimate)
    rates = estimate.add_mutually_exclusive_group()
    rates.add_argument(
        "--rates",
        type=Path,
        help="CSV file of measured images per second (results/rates.csv, measured if it is not "
        "there)",
    )
    rates.add_argument(
        "--rate",
        type=_rate,
        nargs="+",
        metavar="WHAT=NUMBER",
        help="images per second of one GPU: each method, features, fine-tuning",
    )
    schema = add(
        commands,
        "schema",
        _schema,
        "print the JSON schema of study files or of config.yaml",
        "e2mc schema --of config",
    )
    schema.add_argument("--of", choices=("study", "config"), default="study", help="(study)")
    completion = add(
        commands,
        "completion",
        _completion,
        "print a script that makes the shell complete e2mc's commands and options",
        'eval "$(e2mc completion bash)"',
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(program=program)


def _doctor(options: argparse.Namespace) -> Reply:
    from e2mc.cli.doctor import PROBLEM, as_data, as_text, diagnose

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
    from e2mc.cli.estimate import Rates, estimate, read_rates
    from e2mc.study import load_study, read_config

    study, config = load_study(options.study), read_config()
    if options.rates:
        rates = read_rates(options.rates)
    elif options.rate:
        rates = Rates(dict(options.rate))
    else:
        rates = _measured(study, config)
    found = estimate(study, rates, keep=config.keep)
    table = found.frame.to_string(index=False, float_format="{:,.1f}".format, na_rep="")
    lines = [table, *found.unknown, f"Rates: {rates.origin}."]
    rows = [
        {key: None if value != value else value for key, value in row.items()}  # NaN is no JSON
        for row in found.frame.to_dict(orient="records")
    ]
    data = {
        "rates": rates.origin,
        "images_per_second": dict(rates.images_per_second),
        "rows": rows,
        "unknown": list(found.unknown),
    }
    return Reply("\n\n".join(lines), data)


def _measured(study: Study, config: Config) -> Rates:
    """Rates of an earlier call, or measured now; what is done is told to standard error."""
    from e2mc.cli.measuring import rates_at_hand
    from e2mc.steps.device import resolve_device

    folders: dict[str, Path | None] = dict(config.data_folders.items())
    device = resolve_device(config.device)
    return rates_at_hand(study, folders, device, lambda line: print(line, file=sys.stderr))


def _schema(options: argparse.Namespace) -> Reply:
    from e2mc.study import Config, Study

    schema = (Study if options.of == "study" else Config).model_json_schema()
    return Reply(json.dumps(schema, indent=2), schema)


def _completion(options: argparse.Namespace) -> Reply:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise InputError("completion needs shtab: pip install 'e2mc[completion]'") from error
    script = shtab.complete(options.program, options.shell)
    return Reply(script, script)
