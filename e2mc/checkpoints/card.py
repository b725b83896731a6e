"""The model card of an exported checkpoint: what was done to which file, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2mc.checkpoints.checkpoint import Checkpoint
from e2mc.checkpoints.export import Exported, origin


@dataclass(frozen=True)
class Gain:
    """A score before and after.

    Attributes:
        label: what it is.
        before, after: means over the seeds that there are.
        difference, low, high: mean of the paired differences and its 95 % interval; NaN for the
            ends where there is one pair only.
        pairs: how many.
    """

    label: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    pairs: int


def model_card(
    checkpoint: Checkpoint,
    exported: Exported,
    path: Path,
    digest: str,
    gains: Sequence[Gain] | None = None,
    verdict: str | None = None,
) -> str:
    """Markdown.

    Args:
        checkpoint: what was exported.
        exported: its weights.
        path, digest: the file that was written, and its SHA-256.
        gains: of the arm against the base; None where no study was named.
        verdict: what else is to be said of that, Markdown.
    """
    parameters = sum(value.numel() for value in exported.weights.values())
    lines = [
        f"# {path.stem}",
        "",
        f"`{exported.network}` in the format of {exported.format}, {parameters:,} numbers in "
        f"{len(exported.weights)} tensors. SHA-256 of `{path.name}`: `{digest}`.",
        "",
        "## What was done",
        "",
        *_history(checkpoint),
        "",
        "## Use",
        "",
        "```python",
        exported.how_to_load(path),
        "```",
        "",
        *_preparation(checkpoint),
        "## Before and after",
        "",
        *_results(gains, verdict),
        "",
        "## Licence",
        "",
        "To be filled in. A model that goes on from another is bound by that model's licence, and "
        "may be by those of the images.",
        "",
    ]
    return "\n".join(lines)


def _history(checkpoint: Checkpoint) -> Iterator[str]:
    first = origin(checkpoint.provenance)
    kind = "released" if "released" in first else "own"
    digest = first.get("sha256") if kind == "released" else first.get("own")
    number = 1
    if digest is not None:
        whose = f"released file of {first['released']}" if kind == "released" else "given file"
        yield f"{number}. A {whose}, SHA-256 `{digest}`."
        number += 1
    for stage in _stages(checkpoint.provenance):
        yield f"{number}. {stage}"
        number += 1
    yield ""
    yield f"{checkpoint.epochs} epochs of pre-training in all, as far as is known."


def _stages(provenance: Mapping[str, Any]) -> list[str]:
    """What was trained, the first stage first, from models each of which went on from another."""
    start = provenance.get("start")
    before = _stages(start) if isinstance(start, Mapping) else []
    made = provenance.get("made_with", provenance.get("spec"))
    if not isinstance(made, Mapping) or "optimizer" not in made:
        told = {"own", "released"} & provenance.keys()
        return before if told else [*before, "Pre-trained with this package."]
    criteria = [f"{item['name']} ({_params(item)})" for item in made.get("criteria", ())]
    optimizer = made["optimizer"]
    images = provenance.get("images", {}).get("images")
    what = "Continued" if isinstance(start, Mapping) else "Pre-trained from random weights"
    return [
        *before,
        f"{what}: method {made['method']['name']} ({_params(made['method'])})"
        + (f" plus {', '.join(criteria)}" if criteria else "")
        + f", {made['epochs']} epochs in batches of {made['batch_size']}, {optimizer['name']} with "
        f"learning rate {optimizer['lr']:g}, seed {made['seed']}"
        + (f", images with digest `{images}`." if images else "."),
    ]


def _params(component: Mapping[str, Any]) -> str:
    params = component.get("params", {})
    return ", ".join(f"{key} = {value}" for key, value in params.items()) or "as by default"


def _preparation(checkpoint: Checkpoint) -> list[str]:
    made = checkpoint.provenance.get("made_with", {})
    found = made.get("normalisation") if isinstance(made, Mapping) else None
    if not found:
        return []
    return [f"Images in [0, 1] less mean {found['mean']}, over deviation {found['std']}.", ""]


def _results(gains: Sequence[Gain] | None, verdict: str | None) -> Iterator[str]:
    if verdict:
        yield verdict
        yield ""
    if not gains:
        if not verdict:
            yield "No results of a study were at hand."
        return
    yield "| | before | after | difference, 95 % interval | pairs |"
    yield "| :-- | --: | --: | :-- | --: |"
    for gain in gains:
        interval = ""
        if gain.low == gain.low:
            interval = f" [{gain.low:+.2f}, {gain.high:+.2f}]"
        yield (
            f"| {gain.label} | {gain.before:.2f} | {gain.after:.2f} | {gain.difference:+.2f}"
            f"{interval} | {gain.pairs} |"
        )
    yield ""
    yield (
        "Means over the seeds of continued pre-training, of which this file is one; paired by "
        "seeds. An interval that holds zero is no difference."
    )
