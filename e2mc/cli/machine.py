"""Commands about this machine and this program."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from e2mc.cli.command import Reply, add, add_study
from e2mc.errors import InputError


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
        "estimate GPU-hours and disk space of every row of the tables",
        "e2mc estimate --study paper --rate vicreg=900 swav=500 simsiam=900 features=3000 "
        "fine-tuning=1500",
    )
    add_study(estimate)
    rates = estimate.add_mutually_exclusive_group(required=True)
    rates.add_argument("--rates", type=Path, help="CSV file of measured images per second")
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
        raise InputError("completion needs shtab: pip install 'e2mc[completion]'") from error
    script = shtab.complete(options.program, options.shell)
    return Reply(script, script)
