"""Commands for tables and the report."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from e2mc.cli.command import Reply, add, add_study, written
from e2mc.errors import InputError, expect_known


def reporting_commands(commands: Any) -> None:
    """table, report, where."""
    table = add(
        commands,
        "table",
        _table,
        "make a table from the results that are there, in four formats, and print one",
        "e2mc table table1",
    )
    add_study(table)
    table.add_argument("name", help="a table of the study, e.g. table1")
    table.add_argument(
        "--format", choices=("md", "tex", "csv", "html"), default="md", help="to print (md)"
    )
    report = add(
        commands,
        "report",
        _report,
        "make the HTML report of a finished study",
        "e2mc report --study fashion",
    )
    add_study(report)
    where = add(
        commands,
        "where",
        _where,
        "say where the tables, figures and the report are",
        "e2mc where --study fashion",
    )
    add_study(where)


def _table(options: argparse.Namespace) -> Reply:
    from e2mc.reporting.cells import table_results
    from e2mc.reporting.results import collect
    from e2mc.reporting.tables import build_table
    from e2mc.steps.reporting import expect_results
    from e2mc.study import load_study

    study = load_study(options.study)
    expect_known(options.name, study.tables, "table")
    wanted = table_results(study, options.name)
    found = [path for path in wanted if path.exists()]
    if not found:
        raise InputError(
            f"no result of {options.name} is there (e.g. {wanted[0]}): run "
            f"`snakemake {options.name}`, or single ones with `e2mc evaluate`"
        )
    expect_results(study, found)
    table = build_table(study, options.name, collect(found))
    try:
        files = {
            kind: str(path)
            for kind, path in table.save(study.root / "tables" / options.name).items()
        }
    except OSError as error:  # somebody else's results can be read all the same
        print(f"the table is not saved: {error}", file=sys.stderr)
        files = {}
    rows = [entry.flat() for entry in table.entries]
    rows = [{k: None if v != v else v for k, v in row.items()} for row in rows]  # NaN is no JSON
    text = table.text(options.format).rstrip("\n")
    return Reply(text, {"files": files, "verdict": table.verdict, "cells": rows})


def _report(options: argparse.Namespace) -> Reply:
    from e2mc.steps.reporting import report_task
    from e2mc.study import load_study

    task = report_task(load_study(options.study), full=False)
    task.perform()
    return written({"report": task.output("html")})


def _where(options: argparse.Namespace) -> Reply:
    from e2mc.steps.reporting import report_path
    from e2mc.study import load_study

    study = load_study(options.study)
    made = sorted(study.root.glob("tables/*.md")) + sorted(study.root.glob("figures/*.png"))
    made += [path for path in (report_path(study, full=False),) if path.exists()]
    if not made:
        raise InputError(f"{study.root} has no tables yet: run `snakemake --cores 2`")
    return Reply("\n".join(map(str, made)), [str(path) for path in made])
