"""Commands for checkpoint files."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.cli.command import Reply, add, add_study, base_of, written
from e2mc.errors import InputError

if TYPE_CHECKING:
    from e2mc.checkpoints.download import Source
    from e2mc.study import Study


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
        "download a base's released checkpoint, or all that a study needs, going on where an "
        "attempt stopped, and check it",
        "e2mc checkpoint download --study paper --all",
    )
    convert = add(
        actions,
        "convert",
        _convert,
        "convert a base's released checkpoint, or your own, to this package's format",
        "e2mc checkpoint convert --study paper --base vicreg",
    )
    add_study(download)
    which = download.add_mutually_exclusive_group(required=True)
    which.add_argument("--base", help="a base of the study, e.g. vicreg")
    which.add_argument(
        "--all",
        action="store_true",
        help="every released checkpoint and published label list, for nodes without internet",
    )
    add_study(convert)
    convert.add_argument("--base", required=True, help="a base of the study, e.g. vicreg")
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
    if options.all:
        return _download_all(study)
    base_of(study, options.base)
    task = download_task(study, options.base)
    path = task.output("original")
    source = fetch(study, options.base, path)
    return Reply(_fetched(path, source), {"file": str(path), **asdict(source)})


def _download_all(study: Study) -> Reply:
    """Fetches what there is; a file that cannot be had does not keep the others from coming."""
    from e2mc.checkpoints.download import DownloadError
    from e2mc.steps.checkpoints import fetch
    from e2mc.steps.data import fetch_label_list, published_lists
    from e2mc.study import ReleasedCheckpoint

    wanted: dict[Path, Callable[[Path], Source]] = {
        study.download_path(name): functools.partial(fetch, study, name)
        for name, base in study.bases.items()
        if isinstance(base.checkpoint, ReleasedCheckpoint)
    }
    for path, item in published_lists(study).items():
        wanted[path] = functools.partial(fetch_label_list, item)
    if not wanted:
        raise InputError(
            f"study {study.name} has no released checkpoint and no published label list: there is "
            "nothing to download"
        )
    lines, files, errors = [], [], []
    for path, get in wanted.items():
        try:
            source = get(path)
        except DownloadError as error:
            lines.append(f"{path}: {error}")
            errors.append(str(error))
        else:
            lines.append(_fetched(path, source))
            files.append({"file": str(path), **asdict(source)})
    return Reply("\n".join(lines), {"files": files, "errors": errors}, not errors)


def _fetched(path: Path, source: Source) -> str:
    return f"{path}: {source.size:,} bytes, SHA-256 {source.sha256}"


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
