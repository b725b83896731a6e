"""Commands for checkpoint files."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2mc.cli.command import Reply, add, add_study, base_of, written
from e2mc.errors import InputError


def checkpoint_commands(commands: Any) -> None:
    """checkpoint download, convert, inspect, export."""
    group = commands.add_parser(
        "checkpoint", help="download, convert, inspect or export checkpoint files"
    )
    actions = group.add_subparsers(required=True, metavar="ACTION")
    download = add(
        actions,
        "download",
        _download,
        "download a base's released checkpoint, going on where an attempt stopped, and check it",
        "e2mc checkpoint download --study paper --base vicreg",
    )
    convert = add(
        actions,
        "convert",
        _convert,
        "convert a base's released checkpoint, or your own, to this package's format",
        "e2mc checkpoint convert --study paper --base vicreg",
    )
    for parser in (download, convert):
        add_study(parser)
        parser.add_argument("--base", required=True, help="a base of the study, e.g. vicreg")
    inspect = add(
        actions,
        "inspect",
        _inspect,
        "say what is in a checkpoint file of any known format",
        "e2mc checkpoint inspect checkpoints/fashion/vicreg-base0.pt",
    )
    inspect.add_argument("file", type=Path)
    export = add(
        actions,
        "export",
        _export,
        "write a checkpoint's weights for timm, torchvision or a method's official code, with a "
        "model card",
        "e2mc checkpoint export checkpoints/fashion/vicreg-base0.pt vicreg.safetensors",
    )
    export.add_argument("file", type=Path, help="a checkpoint of this package")
    export.add_argument(
        "output", type=Path, help="the file to write, .safetensors or .pth; the card is .md"
    )
    export.add_argument(
        "--format",
        metavar="FORMAT",
        help="timm, torchvision, vicreg, swav, simsiam or e2mc (that which the model came from)",
    )
    export.add_argument("--study", help="whose checkpoint it is: its scores go into the card")
    export.add_argument("--force", action="store_true", help="replace files that are there")
    export.add_argument(
        "--push", metavar="REPOSITORY", help="also upload both to this repository of the hub"
    )


def _download(options: argparse.Namespace) -> Reply:
    from e2mc.steps.checkpoints import download_task, fetch
    from e2mc.study import load_study

    study = load_study(options.study)
    base_of(study, options.base)
    task = download_task(study, options.base)
    path = task.output("original")
    source = fetch(study, options.base, path)
    text = f"{path}: {source.size:,} bytes, SHA-256 {source.sha256}"
    return Reply(text, {"file": str(path), **asdict(source)})


def _convert(options: argparse.Namespace) -> Reply:
    from e2mc.steps.checkpoints import conversion_task
    from e2mc.study import ReleasedCheckpoint, load_study

    study = load_study(options.study)
    base = base_of(study, options.base)
    task = conversion_task(study, options.base)
    original = task.input("original")
    if isinstance(base.checkpoint, ReleasedCheckpoint) and not original.exists():
        raise InputError(
            f"{original} does not exist: run `e2mc checkpoint download --study {study.name} "
            f"--base {options.base}` first"
        )
    task.perform()
    return written({"checkpoint": task.output("checkpoint")})


def _inspect(options: argparse.Namespace) -> Reply:
    from e2mc.checkpoints.inspect import inspect_checkpoint

    found = inspect_checkpoint(options.file)
    lines = [f"{name:14} {_in_words(value)}" for name, value in found.items()]
    return Reply("\n".join(lines), found)


def _export(options: argparse.Namespace) -> Reply:
    from e2mc.steps.export import export_checkpoint, push
    from e2mc.study import load_study

    done = export_checkpoint(
        options.file,
        options.output,
        format=options.format,
        study=None if options.study is None else load_study(options.study),
        force=options.force,
    )
    if options.push is not None:
        push(done, options.push)
    text = f"{done.weights}: format {done.format}, SHA-256 {done.sha256}\n{done.card}"
    return Reply(text, {key: str(value) for key, value in asdict(done).items()})


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_in_words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else f"{value:,}" if type(value) is int else str(value)
