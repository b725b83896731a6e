"""From anybody's model and images to a verdict: looks, writes a study, runs it, compares."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.cli.command import Reply, add
from e2mc.errors import EXPECTED_ERRORS, InputError, MachineError, expect_integer
from e2mc.state import write_text

if TYPE_CHECKING:
    from e2mc.data.looking import LookedAt
    from e2mc.data.source import LabelledSource
    from e2mc.reporting.improvement import Improvement
    from e2mc.study import Config, Run, Study
    from e2mc.study.draft import Facts

# of ImageNet's images, for networks whose library does not say what they were made for
MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224
MEASURING = 2.0  # seconds that one kind of step is measured for
STARTING = 8.0  # seconds until a job has loaded what it needs
AT_A_TIME = 3  # jobs that share a machine without a GPU, as many as seeds


def improve_commands(commands: Any) -> None:
    """improve."""
    improve = add(
        commands,
        "improve",
        _improve,
        "continue a model on your images with and without E2MC, and say whether it got better",
        "e2mc improve model.safetensors --backbone timm:resnet50.a1_in1k --images /data/birds "
        "--export better.safetensors",
    )
    improve.add_argument(
        "model", type=Path, help="its weights: a file of torch.save or safetensors"
    )
    improve.add_argument("--backbone", required=True, help="its network, e.g. torchvision:resnet18")
    improve.add_argument(
        "--images",
        required=True,
        help="folder with train/<class>/ and val/<class>/ or test/<class>/, with a folder per "
        "class, with Parquet shards, or with images alone: without labels; or a data set of "
        "torchvision, e.g. CIFAR10",
    )
    improve.add_argument("--name", help="of the study (the model's and the images')")
    improve.add_argument("--epochs", type=int, help="of continued training (10, fewer if many)")
    end = improve.add_mutually_exclusive_group()
    end.add_argument(
        "--write-only", action="store_true", help="write the study and stop, to look at it first"
    )
    end.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write the model with E2MC there, whatever the verdict, for the library of its "
        "network: .safetensors or .pth; its card is .md",
    )
    improve.add_argument(
        "--force",
        action="store_true",
        help="write over a study of this name that is different, and over an exported file",
    )
    improve.add_argument("--cores", type=int, default=os.cpu_count(), help="of this machine (all)")
    improve.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="slurm: trainings and evaluations as jobs, with the resources of config.yaml (local)",
    )


def _improve(options: argparse.Namespace) -> Reply:
    from e2mc.study import load_study, read_config

    if not Path("Snakefile").is_file():
        raise InputError(
            f"{Path.cwd()} has no Snakefile: e2mc improve runs the workflow, call it in a checkout "
            "of the repository"
        )
    for name in ("epochs", "cores"):
        if getattr(options, name) is not None:
            expect_integer(getattr(options, name), f"--{name}", at_least=1)
    config = read_config()
    if options.export is not None:
        _expect_export(options)
    facts, images = _look(options, config)
    path = Path("studies") / f"{facts.name}.yaml"
    _write(path, facts, images, options, config)
    study = load_study(facts.name)
    command = _command(study, options, config)
    if options.write_only:
        text = f"{path} is written. Look at it, then run: {' '.join(command)}"
        return Reply(text, {"study": str(path), "command": command})
    _tell(f"{path} is written")
    _run(command, facts.name)
    return _verdict(study, options)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _expect_export(options: argparse.Namespace) -> None:
    """Raises unless a file can be exported, before anything is run for it."""
    from e2mc.steps.export import expect_writable, output_files

    output, _ = output_files(options.export, force=options.force)
    size = options.model.stat().st_size if options.model.is_file() else 0
    expect_writable(output, size)


def _look(options: argparse.Namespace, config: Config) -> tuple[Facts, LookedAt]:
    """What is known of the model and of the images."""
    from e2mc.checkpoints.looking import look_at_model
    from e2mc.data.looking import channels_of, known_images, look_at_images
    from e2mc.models import check_backbone, model_normalisation
    from e2mc.study import data_folder
    from e2mc.study.draft import Facts, name_of
    from e2mc.study.parts import NAME

    known = known_images(options.images)
    name = options.name or name_of(options.model, Path(options.images))
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"--name {name!r}: expected small letters, digits, - and _, as in birds-resnet50"
        )
    channels = channels_of(known)
    keys, found = look_at_model(options.model, options.backbone, channels)
    _tell(f"{options.model}: {found}")
    images = look_at_images(known, config.data_folders.get("torchvision"), data_folder(name))
    _tell(f"{options.images}: {images.in_words()}")
    prepared = model_normalisation(options.backbone)
    mean, std, largest = prepared or (MEAN, STD, SIDE)
    if channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    size = min(largest, max(32, images.side // 32 * 32))
    try:
        check_backbone(options.backbone, {size}, in_channels=channels)
    except InputError:
        if size == largest:
            raise
        size = largest  # such as a transformer whose positions are for one size
    facts = Facts(
        name=name,
        model=options.model.resolve(),
        keys=keys,
        backbone=options.backbone,
        images=images.counted,
        size=size,
        mean=mean,
        std=std,
    )
    return facts, images


def _write(
    path: Path, facts: Facts, images: LookedAt, options: argparse.Namespace, config: Config
) -> None:
    """The study file; one that is there already stays, or ``--force`` is given.

    Raises:
        InputError: when another study of that name is there.
    """
    from e2mc.steps.device import resolve_device
    from e2mc.steps.first_weights import suggested_weights
    from e2mc.study import load_study
    from e2mc.study.draft import ARM, BASE, draft, same_but_for_weights

    unweighted = draft(facts, {}, epochs=options.epochs)
    there = path.read_text(encoding="utf-8") if path.exists() else None
    stands = there is not None and same_but_for_weights(there, unweighted)
    if there is not None and not stands and not options.force:
        raise InputError(
            f"{path} exists and is another study: choose another --name, or write over it with "
            "--force"
        )
    with tempfile.TemporaryDirectory() as folder:
        trial_path = Path(folder) / path.name
        write_text(unweighted, trial_path)
        trial = load_study(str(trial_path))
        training = images.training(trial.data.split_seed)
        device = resolve_device(config.device)
        _tell(_cost(trial, training, device, options.cores, config))
        if stands:
            return
        with _on_threads(_threads(device, options.cores)):
            weights = suggested_weights(trial, BASE, ARM, training, device)
    said = ", ".join(f"{name} {weight:.2g}" for name, weight in weights.items())
    _tell(f"first weights of E2MC: {said}")
    write_text(draft(facts, weights, epochs=options.epochs), path)


def _cost(study: Study, images: LabelledSource, device: str, cores: int, config: Config) -> str:
    """What a study costs on this machine, in a sentence.

    Raises:
        MachineError: when the disk has too little room for its checkpoints.
    """
    from e2mc.cli.estimate import estimate
    from e2mc.cli.measuring import quick_rates

    each = _threads(device, cores)
    with _on_threads(each):
        rates = quick_rates(study, images, device, MEASURING)
    frame = estimate(study, rates, keep=_kept(config)).frame
    [row] = frame[frame["table"] == "together"].to_dict(orient="records")
    at_a_time = 1 if each is None else cores // each
    jobs = 2 * row["runs"] + 2  # a model is trained and scored; images, the given model, a table
    seconds = (3600 * row["GPU-hours"] + STARTING * jobs) / at_a_time
    gigabytes = row["disk GB"]
    free = shutil.disk_usage(".").free / 1e9
    if free < gigabytes:
        raise MachineError(
            f"the checkpoints of study {study.name} take {gigabytes:,.1f} GB, this disk has "
            f"{free:,.1f} GB left: free some space"
        )
    speeds = ", ".join(f"{what} {rate:,.0f}" for what, rate in rates.images_per_second.items())
    return (
        f"this will take about {_duration(seconds)} and {gigabytes:,.2f} GB of disk here: "
        f"{row['runs']} models, images/s: {speeds} ({rates.origin})"
    )


def _threads(device: str, cores: int) -> int | None:
    """Cores for a job, where several side by side use them better than one after the other."""
    return max(1, cores // AT_A_TIME) if device == "cpu" else None


@contextlib.contextmanager
def _on_threads(count: int | None) -> Iterator[None]:
    """Computes on so many threads; None: as many as there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds > 5400 else f"{seconds / 60:,.0f} minutes"


def _kept(config: Config) -> tuple[str, ...]:
    """What stays: the continued models too, which are what this is for."""
    return tuple(dict.fromkeys((*config.keep, "continued")))


def _command(study: Study, options: argparse.Namespace, config: Config) -> list[str]:
    """What runs the study."""
    from e2mc.steps.device import resolve_device

    command = ["snakemake", "--cores", str(options.cores)]
    each = _threads(resolve_device(config.device), options.cores)
    if options.launcher == "local" and each is not None:
        rules = ["continue_pretraining", *study.evaluation_jobs()]
        command += ["--set-threads", *(f"{rule}={each}" for rule in rules)]
    keep = ",".join(_kept(config))
    return [
        *command,
        "--config",
        f"study={study.name}",
        f"launcher={options.launcher}",
        f"keep=[{keep}]",
    ]


def _run(command: list[str], name: str) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([str(program), *command[1:]], stdout=sys.stderr, check=False)
    if done.returncode:
        raise MachineError(
            f"the workflow of study {name} has stopped, see above: mend it, and the same command "
            "goes on from there"
        )


def _verdict(study: Study, options: argparse.Namespace) -> Reply:
    """What came of it, on the screen and in ``verdict.md``; and the exported model."""
    from e2mc.reporting.cells import main_table_results
    from e2mc.reporting.improvement import improvement
    from e2mc.reporting.results import collect, measurement_results
    from e2mc.study import Run
    from e2mc.study.draft import ARM, BASE

    results = [*main_table_results(study), *measurement_results(study, "embeddings")]
    found = improvement(study, BASE, ARM, collect(results))
    text = "\n\n".join((study.title, found.table(), found.verdict))
    path = study.root / "verdict.md"
    write_text(f"# {text}\n", path)
    run = Run(BASE, ARM, study.seeds.base[0], study.seeds.continuation[0])
    exported = _exported(study, run, found, options)
    data = {"file": str(path), "verdict": found.verdict, "exported": exported.data}
    return Reply(f"{text}\n\n{exported.text}", data, exported.ok)


def _exported(study: Study, run: Run, found: Improvement, options: argparse.Namespace) -> Reply:
    """The model as a file, or how to have one; a verdict is not lost where it cannot be written."""
    from e2mc.steps.export import export_checkpoint

    checkpoint, seed = study.trained_path(run), run.continuation_seed
    command = f"e2mc checkpoint export {checkpoint}"
    if options.export is None:
        line = f"{command} {study.name}.safetensors --study {study.name}"
        return Reply(f"The model with E2MC (seed {seed}) as a file: {line}", None)
    try:
        done = export_checkpoint(
            checkpoint,
            options.export,
            study=study,
            verdict=f"{found.table()}\n\n{found.verdict}",
            force=options.force,
        )
    except EXPECTED_ERRORS as error:
        line = f"{command} <file> --study {study.name}"
        return Reply(f"The model with E2MC was not exported: {error}. Then: {line}", None, False)
    data = {"weights": str(done.weights), "card": str(done.card), "sha256": done.sha256}
    line = f"{done.weights}, for {done.format}; its card is {done.card}"
    return Reply(f"The model with E2MC (seed {seed}) is {line}", data)
