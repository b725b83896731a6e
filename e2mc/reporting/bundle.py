"""One archive of a finished study that its tables can be made from again, as an RO-Crate.

Source: RO-Crate (https://w3id.org/ro/crate) and its profile for workflows, written by ro-crate-py.
"""

from __future__ import annotations

import mimetypes
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from e2mc.errors import InputError, MachineError
from e2mc.reporting import made, parts
from e2mc.reporting.part import Part
from e2mc.state import atomic_path, write_text
from e2mc.study import Study, study_files

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

CONFIG, CITATION, WORKFLOW = Path("config.yaml"), Path("CITATION.cff"), Path("Snakefile")
STUDIES = Path("studies")
# other names than Python's table knows
MEDIA_TYPES = {".md": "text/markdown", ".yaml": "application/yaml", ".cff": "application/yaml"}


def make_bundle(study: Study, archive: Path, *, overwrite: bool = False) -> list[Path]:
    """Packs a finished study: source, study files, results, tables, figures, lock and licence.

    Images and checkpoints of ``results/`` stay out. In the archive config.yaml is the one that was
    committed, with this study chosen.

    Args:
        study: what is packed.
        archive: zip file to write, whole or not at all.
        overwrite: whether one that is there is replaced.

    Returns:
        The files of the study in the archive.

    Raises:
        InputError: when the archive exists, the study is not finished, or this is no clone.
    """
    if archive.exists() and not overwrite:
        raise InputError(f"{archive} exists: name another file, or give --force to replace it")
    results = result_files(study)
    files = {path: path for path in tracked_files() if path.is_file()}
    files |= placed_studies(study, files) | {path: path for path in results}
    commit = _git("rev-parse", "HEAD").strip()
    edited = bool(_git("status", "--porcelain", "--untracked-files=no").strip())
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        write_text(chosen(_git("show", f"HEAD:./{CONFIG}"), study), config)
        files[CONFIG] = config
        crate = describe(study, files, f"{commit}{' with later changes' if edited else ''}")
        unpacked = Path(folder) / "crate"
        crate.write(unpacked)
        for name, source in files.items():
            # a file keeps its time, by which Snakemake knows what is made of what, and its mode
            shutil.copystat(source, unpacked / name)
        with atomic_path(archive) as temporary:
            pack(unpacked, temporary)
    return results


def pack(folder: Path, archive: Path) -> None:
    """Writes everything below a folder into a zip file."""
    # times before 1980, which some clones have, are none that a zip file knows
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))


def result_files(study: Study) -> list[Path]:
    """Scores, training logs, tables, figures and reports of a study, and no checkpoint or image.

    Raises InputError when a table or figure that `all` makes is missing, or what it is made from.
    """
    wanted = dict.fromkeys(_files(study, made(study).values()))
    missing = [path for path in wanted if not path.exists()]
    if missing:
        raise InputError(
            f"study {study.name} is not finished, {len(missing):,} files are missing, e.g. "
            f"{missing[0]}: run `snakemake --cores 2 --config study={study.source}` first"
        )
    there = [part for part in parts(study).values() if not part.lacking(study)]
    found = [path for path in _files(study, there) if path.exists()]
    found += sorted((study.root / "evaluations").rglob("*.json"))
    found += sorted(study.root.glob("*report.html"))
    return list(dict.fromkeys(found))


def _files(study: Study, shown: Iterable[Part]) -> list[Path]:
    """What some parts read and write below the study's folder."""
    paths: list[Path] = []
    for part in shown:
        paths += [*part.inputs(study), *part.outputs(study).values()]
    return [path for path in paths if path.is_relative_to(study.root) and path.suffix != ".pt"]


def tracked_files() -> list[Path]:
    """Every file below this folder that git tracks, relative to it."""
    return [Path(name) for name in _git("ls-files", "-z").split("\0") if name]


def _git(*words: str) -> str:
    """What git says in this folder."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MachineError("a bundle holds the files that git tracks: install git") from error
    if done.returncode:
        raise InputError(
            f"git {words[0]} failed in {Path.cwd()}: a bundle holds the files that git tracks, run "
            f"it in a clone with a commit ({' '.join(done.stderr.split())})"
        )
    return done.stdout


def placed_studies(study: Study, files: Iterable[Path]) -> dict[Path, Path]:
    """Name in the archive -> file of the study and of those that it extends, from anywhere.

    Raises InputError when another file of the archive has the name.
    """
    placed = {}
    for path in study_files(study.source):
        name = STUDIES / path.name
        if name in files and not name.samefile(path):
            raise InputError(f"{path} would be {name} in the archive, which is another: rename it")
        placed[name] = path
    return placed


def chosen(config: str, study: Study) -> str:
    """The text of config.yaml with this study as the one that is run."""
    named = study.source.endswith((".yaml", ".yml"))
    source = str(STUDIES / Path(study.source).name) if named else study.source
    return re.sub(r"^study:[^#\n]*", f"study: {source}  ", config, count=1, flags=re.MULTILINE)


def describe(study: Study, files: dict[Path, Path], version: str) -> ROCrate:
    """The archive's description: what each file is, who made it, under which licence.

    Args:
        study: what is packed.
        files: name in the archive -> file.
        version: of the source.
    """
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    citation = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    crate = ROCrate()
    crate.name = f"{study.title} ({study.name})"
    crate.description = (
        "Source, environment, study, results, tables and figures. In the unpacked archive `make "
        "env` installs the environment and `snakemake --cores 1 --force table1` makes the table "
        "again from the results; docs/artifact.md tells more."
    )
    crate.root_dataset["version"] = version
    crate.keywords = "self-supervised learning, continued pre-training, entropy"
    licence = citation["license"]
    crate.license = crate.add(
        ContextEntity(
            crate,
            f"https://spdx.org/licenses/{licence}",
            {"@type": "CreativeWork", "name": licence},
        )
    )
    crate.creator = [
        crate.add(ContextEntity(crate, f"#author-{number}", {"@type": "Organization", **author}))
        for number, author in enumerate(citation["authors"])
    ]
    entities = {}
    for name, path in files.items():
        properties = {"name": name.name, "encodingFormat": media_type(name)}
        if name == WORKFLOW:
            entities[name] = crate.add_workflow(
                path, str(name), main=True, lang="snakemake", properties={"name": citation["title"]}
            )
        else:
            entities[name] = crate.add_file(path, str(name), properties=properties)
    shown = [path for part in made(study).values() for path in part.outputs(study).values()]
    crate.add_action(
        entities[WORKFLOW],
        identifier="#run",
        object=[entities[name] for name in placed_studies(study, ())],
        result=[entities[path] for path in shown],
        properties={"name": f"the run of study {study.name}"},
    )
    return crate


def media_type(path: Path) -> str:
    """The media type of a file by its name."""
    guessed = mimetypes.guess_type(path.name)[0]
    return MEDIA_TYPES.get(path.suffix) or guessed or "text/plain"
