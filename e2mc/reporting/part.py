"""A table or figure: what it reads, what it writes, and who makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e2mc.state import atomic_path
from e2mc.study import Study

Inputs = Mapping[str, list[Path]]
Outputs = Mapping[str, Path]


def _nothing(study: Study) -> str:
    return ""


@dataclass(frozen=True)
class Part:
    """A table or figure of a study, made from its results alone.

    Attributes:
        name: of its rule, which is also the target.
        reads: study -> the files that ``make`` reads, in named lists.
        writes: study -> file below the study's folder -> what the report calls it, empty for a file
            that the report does not show.
        make: called with the study, the files to read and the files to write, file name -> path.
        caption: file in workflow/report; empty where the report shows nothing.
        category: heading in the report.
        lacking: study -> why it has no such part, in one sentence; empty where it has one.
        in_all: whether the target `all` makes it, and the report has it.
        in_full_report: whether the full report has it.
        rests_on: files of the package beside the code of ``make``, e.g. "reporting/published.csv".
    """

    name: str
    reads: Callable[[Study], Inputs]
    writes: Callable[[Study], Mapping[str, str]]
    make: Callable[[Study, Inputs, Outputs], None]
    caption: str = ""
    category: Literal["Tables", "Figures"] = "Figures"
    lacking: Callable[[Study], str] = _nothing
    in_all: bool = True
    in_full_report: bool = True
    rests_on: tuple[str, ...] = ()

    def inputs(self, study: Study) -> list[Path]:
        """Every file that it reads, each once."""
        return list(dict.fromkeys(path for paths in self.reads(study).values() for path in paths))

    def outputs(self, study: Study) -> dict[str, Path]:
        """File name -> path of every file that it writes."""
        paths = [study.root / file for file in self.writes(study)]
        return {path.name: path for path in paths}

    def labels(self, study: Study) -> dict[Path, str]:
        """Path -> label of the files that the report shows."""
        return {study.root / file: label for file, label in self.writes(study).items() if label}

    def show(self, study: Study, outputs: Outputs) -> None:
        """Makes all of its files, or none where something goes wrong.

        Raises:
            RuntimeError: when ``make`` leaves out a file that ``writes`` names.
        """
        with ExitStack() as stack:
            files = {name: stack.enter_context(atomic_path(path)) for name, path in outputs.items()}
            self.make(study, self.reads(study), files)
            for name, path in files.items():
                if not path.stat().st_size:
                    raise RuntimeError(f"{self.name} has not written {name}")


def figure_files(name: str, label: str) -> dict[str, str]:
    """What ``Part.writes`` says of one figure."""
    return {f"figures/{name}.pdf": "", f"figures/{name}.png": label}


def table_files(name: str, label: str) -> dict[str, str]:
    """What ``Part.writes`` says of one table, of which the report shows the HTML."""
    return {f"tables/{name}.{kind}": "" for kind in ("csv", "md", "tex")} | {
        f"tables/{name}.html": label
    }


def missing_key(study: Study, key: str) -> str:
    """What ``Part.lacking`` says of a part that shows what stands under a key of the study."""
    if getattr(study, key) is not None:
        return ""
    return f"study {study.name} has no {key}: add the key to its file"


def left_out(study: Study, measurement: str) -> str:
    """What ``Part.lacking`` says of a part that shows a measurement."""
    return study.left_out.get(measurement, "")


def missing_main_tables(study: Study) -> str:
    """What ``Part.lacking`` says of a part that shows what stands in the main tables."""
    if study.main_tables:
        return ""
    return f"study {study.name} has neither table1 nor table2: add one under `tables` in its file"
