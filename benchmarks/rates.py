"""What heads of several rates cost beside the pass of the frozen backbone that they share.

    python benchmarks/rates.py > benchmarks/rates-cpu.md
    python benchmarks/rates.py --device cuda > benchmarks/rates-gpu.md

ResNet-50 at 224 pixels as the study paper lets images pass, and linear heads with 1,000 classes
and batches of 256: those of the scores (one rate, raw and whitened features), and those of seven
rates on raw, standardised and whitened features. On a CPU processor time of one thread is measured,
in turns, so that other processes matter little. Decoding, which would make the share smaller, is
left out.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable

import torch

from e2mc.evaluation.heads import LinearProtocol
from e2mc.evaluation.probes import Learner, Probe
from e2mc.evaluation.rates import KINDS, at_several_rates
from e2mc.models import create_backbone
from e2mc.study import load_study

BATCH, DIM, CLASSES = 256, 2048, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--pass-images", type=int, default=32)
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    paper = load_study("paper")
    backbone = paper.frozen_pass.of(create_backbone("resnet50", 3)).to(options.device).eval()
    images = torch.randn(options.pass_images, 3, 224, 224, device=options.device)
    features = torch.randn(BATCH, DIM, device=options.device)
    labels = torch.randint(CLASSES, (BATCH,), device=options.device)
    plain, extra = heads(labels, KINDS[::2], Probe), heads(labels, KINDS, Learner)

    @torch.no_grad()
    def frozen() -> None:
        backbone(images)

    def steps(learners: list[Learner]) -> Callable[[], None]:
        indices = torch.arange(BATCH)
        return lambda: [one.heads.consume(features, indices) for one in learners] and None

    kinds = {"pass": frozen, "scores": steps(plain), "rates": steps(extra)}
    per_image = {"pass": options.pass_images, "scores": BATCH, "rates": BATCH}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(options.repeat + 1):
        for name, work in kinds.items():
            seconds = timed(work, options.device)
            if turn:  # the first warms up
                times[name].append(1000 * seconds / per_image[name])
    found = {name: statistics.median(values) for name, values in times.items()}
    share = found["rates"] / (found["pass"] + found["scores"])
    print(f"# Heads of several rates ({options.device})\n")
    print(
        f"{datetime.date.today()}, {platform.machine()}, torch {torch.__version__}; median of "
        f"{options.repeat}.\n"
    )
    print("| per image and epoch | ms |\n|---|---:|")
    print(f"| frozen pass, {paper.frozen_pass.precision}, folded | {found['pass']:.2f} |")
    print(f"| heads of the scores (2) | {found['scores']:.2f} |")
    print(f"| heads of seven rates on three kinds of features (21) | {found['rates']:.2f} |\n")
    print(f"With fresh views a linear column takes {1 + share:.2f} times as long as without.")
    for views in (8, 16):
        passes = views / 100 * found["pass"]
        ratio = 1 + found["rates"] / (passes + found["scores"])
        print(f"With a bank of {views} views and 100 epochs it would take {ratio:.2f} times.")


def heads(labels: torch.Tensor, kinds: tuple[str, ...], of: type[Learner]) -> list[Learner]:
    """Heads on one label subset, at the study's rate or, where nothing is chosen, at seven."""
    protocol = LinearProtocol()
    protocol = protocol if of is Probe else at_several_rates(protocol)
    subset = {0: torch.arange(len(labels))}
    return [of(DIM, labels, subset, CLASSES, protocol, kind) for kind in kinds]


def timed(work: Callable[[], None], device: str) -> float:
    """Seconds of processor time on a CPU, of the wall clock on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
