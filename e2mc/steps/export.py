"""A checkpoint out of this package: a file in another format with its model card, and to a hub."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2mc.checkpoints.card import Gain, model_card
from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.checkpoints.export import SAFETENSORS, TORCH, export, missing_safetensors
from e2mc.errors import InputError, MachineError
from e2mc.models.probe import reason
from e2mc.reporting.results import collect
from e2mc.reporting.statistics import headline_scores, paired_difference, spread
from e2mc.state import sha256, write_text
from e2mc.steps.reporting import expect_results
from e2mc.study import BASE_ARM, Run, Study

OF_OTHERS = (".pt", ".bin", ".ckpt", ".onnx", ".npz", ".pkl", ".tar", ".zip", ".md")  # endings


@dataclass(frozen=True)
class Written:
    """What an export has written.

    Attributes:
        weights, card: the files.
        format: of the weights.
        sha256: of the file of the weights.
    """

    weights: Path
    card: Path
    format: str
    sha256: str


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    format: str | None = None,
    study: Study | None = None,
    verdict: str | None = None,
    force: bool = False,
) -> Written:
    """Writes a checkpoint's weights in another format, and a model card beside them.

    Args:
        checkpoint: a file of this package.
        output: the file to write; its ending, .safetensors or .pth, says how, and without one of
            them it is .safetensors. The card has the same name and ends in .md.
        format: see ``e2mc.checkpoints.export.export``.
        study: whose run the checkpoint is; the card says what became of its scores.
        verdict: what else the card says of that, Markdown.
        force: whether files that are there may be replaced.

    Raises:
        InputError: if a file is there already, its ending is another, the format does not fit, or
            the checkpoint is none of the study's.
        OSError: if the file cannot be written, in one sentence; nothing half is left.
    """
    output, card = output_files(output, force=force)
    loaded = load_checkpoint(checkpoint)
    gains = None if study is None else list(_gains(study, _run_at(study, checkpoint)))
    exported = export(loaded, format)
    exported.write(output)
    digest = sha256(output)
    write_text(model_card(loaded, exported, output, digest, gains, verdict), card)
    return Written(output, card, exported.format, digest)


def output_files(output: Path, *, force: bool = False) -> tuple[Path, Path]:
    """The files of weights and card that an export to ``output`` writes.

    Raises:
        InputError: if one of them is there already, or the ending is one of another format.
    """
    if output.suffix in OF_OTHERS:
        raise InputError(f"{output}: expected a name that ends in {SAFETENSORS} or {TORCH}")
    if output.suffix not in (SAFETENSORS, TORCH):
        output = output.with_name(output.name + SAFETENSORS)
    card = output.with_suffix(".md")
    for path in (output, card):
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file")
        if path.exists() and not force:
            raise InputError(f"{path} is there already: choose another name, or give --force")
    return output, card


def expect_writable(output: Path, size: int) -> None:
    """Raises unless an export can be written, as far as can be told before there is one.

    Args:
        output: the file of its weights.
        size: about how large it will be, in bytes.

    Raises:
        InputError: if there is no such folder, or safetensors is wanted and not installed.
        MachineError: if the folder may not be written, or its disk has less room.
    """
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"{output}: folder {folder} does not exist: make it, or name another")
    if output.suffix == SAFETENSORS and importlib.util.find_spec("safetensors") is None:
        raise InputError(missing_safetensors(output))
    if not os.access(folder, os.W_OK):
        raise MachineError(f"{output}: folder {folder} may not be written: name another")
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MachineError(
            f"{output}: its disk has {free / 1e6:,.0f} MB left, the weights take "
            f"{size / 1e6:,.0f} MB: free some space, or name another folder"
        )


def push(written: Written, repository: str) -> None:
    """Uploads the weights and their card to a repository of the hub, which is made if need be.

    Raises:
        InputError: if huggingface_hub is not installed.
        MachineError: if the hub refuses or cannot be reached.
    """
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        raise InputError("--push needs huggingface_hub: pip install huggingface_hub") from error
    weights = "model.safetensors" if written.weights.suffix == SAFETENSORS else written.weights.name
    try:
        hub = HfApi()
        hub.create_repo(repository, exist_ok=True)
        for path, name in ((written.weights, weights), (written.card, "README.md")):
            hub.upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repository)
    except Exception as error:
        raise MachineError(
            f"{written.weights} was written, but could not be uploaded to {repository} "
            f"({reason(error)}): log in with `hf auth login`, and check the name and the connection"
        ) from error


def _run_at(study: Study, checkpoint: Path) -> Run:
    """The run whose training wrote a file."""
    sweep = () if study.sweep is None else study.sweep.seeds
    seeds = tuple(dict.fromkeys((*study.seeds.continuation, *sweep)))
    for base, base_seed in itertools.product(study.bases, study.seeds.base):
        for arm, seed in [(BASE_ARM, None), *itertools.product(study.arms, seeds)]:
            run = Run(base, arm, base_seed, seed)
            path = study.trained_path(run)
            if path.resolve() == checkpoint.resolve():
                return run
    raise InputError(
        f"{checkpoint} is no checkpoint that study {study.name} trains: name the file below "
        f"{study.root}, or leave --study out"
    )


def _gains(study: Study, run: Run) -> Iterator[Gain]:
    """Of every column whose results are there, the arm against the base."""
    if run.arm == BASE_ARM:
        return
    arms = {
        arm: [Run(run.base, arm, s, c) for s in study.seeds.base for c in seeds]
        for arm, seeds in ((BASE_ARM, (None,)), (run.arm, study.seeds.continuation))
    }
    paths = [
        path
        for runs in arms.values()
        for one in runs
        for name in study.paradigms
        if (path := study.result_path(one, name)).exists()
    ]
    if not paths:
        return
    expect_results(study, paths)
    scores = headline_scores(study, collect(paths))
    for (base, arm, name, features), after in scores.items():
        before = scores.get((base, BASE_ARM, name, features))
        if arm == BASE_ARM or before is None:
            continue
        found = paired_difference(after, before)
        if found is not None:
            label = study.paradigms[name].label
            yield Gain(
                label if features == "raw" else f"{label}, {features} features",
                spread(before.values())[0],
                spread(after.values())[0],
                found.mean,
                found.low,
                found.high,
                found.n,
            )
