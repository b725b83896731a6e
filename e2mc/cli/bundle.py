"""The command that packs a study for an archive."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from e2mc.cli.command import Reply, add, add_study
from e2mc.errors import InputError


def bundle_commands(commands: Any) -> None:
    """bundle."""
    bundle = add(
        commands,
        "bundle",
        _bundle,
        "pack a finished study, source and environment into one archive that remakes its tables",
        "e2mc bundle --study fashion",
    )
    add_study(bundle)
    bundle.add_argument(
        "--output", type=Path, help="zip file to write (results/<study>/<study>-bundle.zip)"
    )
    bundle.add_argument("--force", action="store_true", help="replace an archive that is there")


def _bundle(options: argparse.Namespace) -> Reply:
    from e2mc.reporting.bundle import make_bundle
    from e2mc.study import load_study

    try:
        import rocrate  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError("bundle needs rocrate: pip install 'e2mc[bundle]'") from error
    study = load_study(options.study)
    archive = options.output or study.root / f"{study.name}-bundle.zip"
    results = make_bundle(study, archive, overwrite=options.force)
    size = archive.stat().st_size
    text = f"{archive}: {size:,} bytes with {len(results):,} files of results"
    return Reply(text, {"file": str(archive), "size": size, "results": [str(p) for p in results]})
