"""From anybody's model and images to a verdict: looks, writes a study, runs it, compares."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2mc.cli.command import Reply, add
from e2mc.errors import InputError, MachineError, expect_integer
from e2mc.state import write_text

if TYPE_CHECKING:
    from e2mc.study import Study
    from e2mc.study.draft import Facts

TARGETS = ("table1", "embeddings")
# of ImageNet's images, for networks whose library does not say what they were made for
MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224


def improve_commands(commands: Any) -> None:
    """improve."""
    improve = add(
        commands,
        "improve",
        _improve,
        "continue a model on your images with and without E2MC, and say whether it got better",
        "e2mc improve model.safetensors --backbone timm:resnet50.a1_in1k --images /data/birds",
    )
    improve.add_argument(
        "model", type=Path, help="its weights: a file of torch.save or safetensors"
    )
    improve.add_argument("--backbone", required=True, help="its network, e.g. torchvision:resnet18")
    improve.add_argument(
        "--images", type=Path, required=True, help="folder with train/<class>/ and val/<class>/"
    )
    improve.add_argument("--name", help="of the study (the model's and the images')")
    improve.add_argument("--epochs", type=int, help="of continued training (10, fewer if many)")
    improve.add_argument(
        "--write-only", action="store_true", help="write the study and stop, to look at it first"
    )
    improve.add_argument(
        "--force", action="store_true", help="write over a study of this name that is different"
    )
    improve.add_argument("--cores", type=int, default=os.cpu_count(), help="of this machine (all)")
    improve.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="slurm: trainings and evaluations as jobs, with the resources of config.yaml (local)",
    )


def _improve(options: argparse.Namespace) -> Reply:
    from e2mc.study import load_study

    if not Path("Snakefile").is_file():
        raise InputError(
            f"{Path.cwd()} has no Snakefile: e2mc improve runs the workflow, call it in a checkout "
            "of the repository"
        )
    if options.epochs is not None:
        expect_integer(options.epochs, "--epochs", at_least=1)
    facts = _look(options)
    path = Path("studies") / f"{facts.name}.yaml"
    _write(path, facts, options)
    command = _command(facts.name, options)
    if options.write_only:
        text = f"{path} is written. Look at it, then run: {' '.join(command)}"
        return Reply(text, {"study": str(path), "command": command})
    print(f"{path} is written", file=sys.stderr)
    _run(command, facts.name)
    return _verdict(load_study(facts.name))


def _look(options: argparse.Namespace) -> Facts:
    """What is known of the model and of the images."""
    from e2mc.checkpoints.looking import look_at_model
    from e2mc.data.looking import look_at_images
    from e2mc.models import check_backbone, model_normalisation
    from e2mc.study.draft import Facts, name_of
    from e2mc.study.parts import NAME

    keys, found = look_at_model(options.model, options.backbone)
    print(f"{options.model}: {found}", file=sys.stderr)
    images = look_at_images(options.images)
    print(f"{options.images}: {images.in_words()}", file=sys.stderr)
    prepared = model_normalisation(options.backbone)
    mean, std, largest = prepared or (MEAN, STD, SIDE)
    size = min(largest, max(32, images.side // 32 * 32))
    try:
        check_backbone(options.backbone, {size})
    except InputError:
        if size == largest:
            raise
        size = largest  # such as a transformer whose positions are for one size
    name = options.name or name_of(options.model, options.images)
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"--name {name!r}: expected small letters, digits, - and _, as in birds-resnet50"
        )
    return Facts(
        name=name,
        model=options.model.resolve(),
        keys=keys,
        backbone=options.backbone,
        folder=options.images.resolve(),
        format=images.format,
        classes=images.classes,
        train=images.train,
        test=images.test,
        size=size,
        mean=mean,
        std=std,
    )


def _write(path: Path, facts: Facts, options: argparse.Namespace) -> None:
    """The study file; one that is there already is the same, or ``--force`` is given."""
    from e2mc.steps.first_weights import suggested_weights
    from e2mc.study import load_study
    from e2mc.study.draft import ARM, BASE, draft

    with tempfile.TemporaryDirectory() as folder:
        # as it will be, but for the weights
        trial = Path(folder) / path.name
        write_text(draft(facts, {}, epochs=options.epochs), trial)
        weights = suggested_weights(load_study(str(trial)), BASE, ARM)
    said = ", ".join(f"{name} {weight:.2g}" for name, weight in weights.items())
    print(f"first weights of E2MC: {said}", file=sys.stderr)
    text = draft(facts, weights, epochs=options.epochs)
    if path.exists() and path.read_text(encoding="utf-8") != text and not options.force:
        raise InputError(
            f"{path} exists and is another study: choose another --name, or write over it with "
            "--force"
        )
    write_text(text, path)


def _command(name: str, options: argparse.Namespace) -> list[str]:
    """What runs the study."""
    return [
        "snakemake",
        "--cores",
        str(options.cores),
        *TARGETS,
        "--config",
        f"study={name}",
        f"launcher={options.launcher}",
    ]


def _run(command: list[str], name: str) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([str(program), *command[1:]], stdout=sys.stderr, check=False)
    if done.returncode:
        raise MachineError(
            f"the workflow of study {name} has stopped, see above: mend it, and the same command "
            "goes on from there"
        )


def _verdict(study: Study) -> Reply:
    from e2mc.reporting.cells import main_table_results
    from e2mc.reporting.improvement import improvement
    from e2mc.reporting.results import collect, measurement_results
    from e2mc.study.draft import ARM, BASE

    results = [*main_table_results(study), *measurement_results(study, "embeddings")]
    found = improvement(study, BASE, ARM, collect(results))
    text = "\n\n".join((study.title, found.table(), found.verdict))
    path = study.root / "verdict.md"
    write_text(f"# {text}\n", path)
    return Reply(text, {"file": str(path), "verdict": found.verdict})
