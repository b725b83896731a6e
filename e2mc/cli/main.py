"""The whole command line, and how a command ends."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence

from e2mc.cli.bundle import bundle_commands
from e2mc.cli.checkpoints import checkpoint_commands
from e2mc.cli.evaluation import evaluation_commands
from e2mc.cli.improve import improve_commands
from e2mc.cli.machine import machine_commands
from e2mc.cli.reporting import reporting_commands
from e2mc.cli.training import training_commands
from e2mc.errors import EXPECTED_ERRORS
from e2mc.progress import Interrupted

EXIT_STATUS = """\
exit status:
  0    done
  1    the input, the machine or the data are not as they should be: one sentence says what
  2    wrong usage
  130  interrupted; the same command goes on from the last saved state"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status, see ``e2mc --help``."""
    options = make_parser().parse_args(arguments)
    # what a step says as it goes is no part of the JSON
    aside = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    try:
        with aside:
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
    # a terminal may know fewer letters than names have; standard error takes care of itself
    letters = sys.stdout.encoding or "utf-8"
    text = reply.text.encode(letters, "backslashreplace").decode(letters)
    try:
        print(json.dumps(reply.data, indent=2) if options.json else text, flush=True)
    except BrokenPipeError:  # whoever read it, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if reply.ok else 1


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; also what shell completion is made from."""
    from e2mc import __version__

    parser = argparse.ArgumentParser(
        prog="e2mc",
        description="Every step of the workflow by hand, with the same functions.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"e2mc {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training_commands(commands)
    evaluation_commands(commands)
    reporting_commands(commands)
    bundle_commands(commands)
    checkpoint_commands(commands)
    improve_commands(commands)
    machine_commands(commands, parser)
    return parser
