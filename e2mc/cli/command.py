"""What every command has: help, an example, --json, a reply."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.errors import expect_known

if TYPE_CHECKING:
    from e2mc.study import Base, Study


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


def add(commands: Any, name: str, command: Command, help: str, example: str) -> Any:
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


def add_study(parser: Any) -> None:
    """--study."""
    parser.add_argument(
        "--study", default="fashion", help="name in studies/ or path of a study file (fashion)"
    )


def written(outputs: dict[str, Path]) -> Reply:
    """The files that a command wrote."""
    texts = {name: str(path) for name, path in outputs.items()}
    return Reply("\n".join(texts.values()), texts)


def base_of(study: Study, name: str) -> Base:
    """A base of the study; InputError when there is none of that name."""
    expect_known(name, study.bases, "base")
    return study.bases[name]
