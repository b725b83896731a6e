"""Where the terms of a training run go: a CSV file, TensorBoard, Weights & Biases."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from e2mc.errors import InputError

Row = dict[str, float]


def beside(output: Path, name: str) -> Path:
    """Where another file of the run that writes ``output`` is: ``checkpoint.pt`` is alone in its
    folder, beside ``a.pt`` it is ``a-<name>``."""
    return output.with_name(name if output.stem == "checkpoint" else f"{output.stem}-{name}")


class Logger(Protocol):
    """Somewhere to watch a run while it goes on."""

    def write(self, row: Row) -> None:
        """One logged step: "step", "loss", every term, "lr" and "seconds"."""

    def close(self) -> None:
        """Called once, when the run ends or stops."""


class TensorBoardLogger:
    """Scalars for ``tensorboard --logdir results``, in the folder ``tensorboard`` beside the run.

    Args:
        output: the run's checkpoint, see ``beside``.
        what: name of the run.
        done: steps of an earlier attempt that the run goes on from; its later ones are replaced.
        spec: what is trained, shown as text.
    """

    def __init__(self, output: Path, what: str, done: int, spec: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = beside(output, "tensorboard")
        if not done:
            shutil.rmtree(place, ignore_errors=True)
        self.writer = SummaryWriter(str(place), purge_step=done + 1 if done else None)
        if not done:
            self.writer.add_text("spec", "\n".join(f"    {k}: {v}" for k, v in spec.items()))

    def write(self, row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        self.writer.close()


class WandbLogger:
    """Weights & Biases, offline unless the user's environment says otherwise (WANDB_MODE).

    Args: see `TensorBoardLogger`. A run that goes on keeps its identity, and so its curves.
    """

    def __init__(self, output: Path, what: str, done: int, spec: Mapping[str, Any]) -> None:
        import os

        import wandb

        self.run = wandb.init(
            project="e2mc",
            name=what,
            id=what.replace(" ", "-"),
            resume="allow",
            dir=str(output.parent),
            config=dict(spec),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, row: Row) -> None:
        self.run.log(row, step=int(row["step"]))

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Callable[[Path, str, int, Mapping[str, Any]], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}


@contextlib.contextmanager
def open_loggers(
    names: Sequence[str], output: Path, *, what: str, done: int, spec: Mapping[str, Any]
) -> Iterator[Callable[[Row], None]]:
    """A function that hands a row to every logger; they are closed however the block ends.

    A logger whose package is missing is said aloud and left out.

    Args:
        names: of `LOGGERS`.
        output, what, done, spec: see `TensorBoardLogger`.

    Raises:
        ValueError: for a name that does not exist.
    """
    opened: list[Logger] = []

    def write(row: Row) -> None:
        for logger in opened:
            logger.write(row)

    with contextlib.ExitStack() as stack:
        for name in names:
            if name not in LOGGERS:
                raise InputError(
                    f"logger {name!r} does not exist, expected one of {', '.join(LOGGERS)}"
                )
            try:
                opened.append(LOGGERS[name](output, what, done, spec))
            except ModuleNotFoundError as error:
                log = beside(output, "training.csv").name
                print(
                    f"{what}: no {name} log, {error.name} is not installed "
                    f"(pip install 'e2mc[{name}]'); {log} will have every term",
                    file=sys.stderr,
                )
            else:
                stack.callback(opened[-1].close)
        yield write


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV with seven digits; terms that a row lacks are left empty."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.7g}" for key, value in row.items()} for row in rows)
    return text.getvalue()
