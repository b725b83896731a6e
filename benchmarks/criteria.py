"""Time and memory of the criteria against a plain transcription of their formulas.

    python benchmarks/criteria.py --threads 2 > benchmarks/criteria-cpu.md
    python benchmarks/criteria.py --device cuda > benchmarks/criteria-gpu.md

Forward and backward of two views in float32. "plain" is what the official code does: D x D
covariance, sort along the strided axis, autograd. Time is the median of interleaved runs after
warm-up; memory is the peak above what was held before the call, of a process that does nothing
else.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from e2mc.criteria import E2MC, VICRegCovariance
from e2mc.distributed import gather

SHAPES = {
    "cpu": [(512, 128), (512, 2048), (512, 8192)],
    "cuda": [(512, 128), (512, 2048), (512, 8192), (4096, 8192), (2048, 32768)],
}
PLAIN_LIMIT = 8192  # a wider plain term does not fit: D x D matrices of 4 GB each
# Memory bandwidth in bytes/s and dense TF32 matrix rate in FLOP/s, by the vendor's data sheet.
PEAKS = {"H200": (4.8e12, 494e12), "H100": (3.35e12, 494e12), "A100": (2.0e12, 156e12)}


def plain_covariance(u: Tensor) -> Tensor:
    n, d = u.shape
    u = u - u.mean(dim=0)
    c = (u.T @ u) / (n - 1)
    return c.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten().pow(2).sum() / d


def plain_vicreg(*views: Tensor) -> Tensor:
    return sum(plain_covariance(z) for z in views)


def plain_e2mc(*views: Tensor) -> Tensor:
    entropies, covariances = [], []
    for z in views:
        n = z.shape[0]
        m = round(math.sqrt(n))
        u = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
        u = u - u.mean(dim=0)
        x = u.sort(dim=0).values
        entropies.append(torch.log((n + 1) / m * (x[m:] - x[:-m]) + 2**-23).mean(dim=0).mean())
        covariances.append(plain_covariance(u))
    return sum(covariances) - 10 * sum(entropies) / len(entropies)


def ours(criterion: torch.nn.Module) -> Callable[..., Tensor]:
    return lambda *views: criterion(*views).loss


TERMS = {
    "E2MC": (plain_e2mc, ours(E2MC())),
    "VICReg covariance": (plain_vicreg, ours(VICRegCovariance())),
}


def make_views(n: int, d: int, device: str) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(n, d, device=device, requires_grad=True) for _ in range(2)]


def step(term: Callable[..., Tensor], views: Sequence[Tensor]) -> None:
    for z in views:
        z.grad = None
    term(*views).backward()


def seconds(term: Callable[..., Tensor], views: Sequence[Tensor]) -> float:
    cuda = views[0].is_cuda
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(term, views)
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(
    terms: Sequence[Callable[..., Tensor]], views: Sequence[Tensor], runs: int
) -> list[float]:
    """Median seconds of each term, one run of each after the other."""
    for term in terms:
        for _ in range(2):
            step(term, views)
    times = [[seconds(term, views) for term in terms] for _ in range(runs)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure_peak(
    name: str, which: int, n: int, d: int, device: str, threads: int, out: str
) -> None:
    """Write the peak bytes of one step above what is held before; runs in a process of its own."""
    torch.set_num_threads(threads)
    term = TERMS[name][which]
    step(term, make_views(64, 32, device))  # libraries and thread pools load here
    views = make_views(n, d, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(term, views)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        Path("/proc/self/clear_refs").write_text("5")  # restarts the high-water mark
        before = resident("VmRSS")
        step(term, views)
        peak = resident("VmHWM") - before
    Path(out).write_text(str(peak))


def peak_bytes(name: str, which: int, n: int, d: int, device: str, threads: int) -> int:
    """Median of three processes: what the C library keeps of freed memory differs."""
    peaks = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "peak"
            mp.spawn(_spawned, (measure_peak, (name, which, n, d, device, threads, str(out))))
            peaks.append(int(out.read_text()))
    return statistics.median(peaks)


def _spawned(_: int, function: Callable[..., None], args: tuple) -> None:
    function(*args)


def floor_seconds(name: str, n: int, d: int, device_name: str) -> float | None:
    """Bytes at memory bandwidth plus matrix work at TF32 rate, for two views.

    Read z and write its gradient once; two products, of min(n, d) n d multiply-adds each.
    """
    peaks = next((peaks for key, peaks in PEAKS.items() if key in device_name), None)
    if peaks is None:
        return None
    bandwidth, rate = peaks
    return 2 * (2 * 4 * n * d / bandwidth + 2 * 2 * min(n, d) * n * d / rate)


def table(device: str, threads: int, runs: int) -> None:
    device_name = torch.cuda.get_device_name() if device == "cuda" else ""
    print("| term | N | D | plain ms | ours ms | ratio | plain MB | ours MB | ratio | floor ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, terms in TERMS.items():
        for n, d in SHAPES[device]:
            views = make_views(n, d, device)
            compared = (0, 1) if d <= PLAIN_LIMIT else (1,)
            times = medians([terms[which] for which in compared], views, runs)
            del views
            peaks = [peak_bytes(name, which, n, d, device, threads) for which in compared]
            floor = floor_seconds(name, n, d, device_name)
            plain = len(compared) == 2
            cells = [
                name,
                n,
                d,
                f"{1e3 * times[0]:.1f}" if plain else "does not fit",
                f"{1e3 * times[-1]:.1f}",
                f"{times[0] / times[1]:.1f}" if plain else "",
                f"{peaks[0] / 1e6:.0f}" if plain else "",
                f"{peaks[-1] / 1e6:.0f}",
                f"{peaks[0] / peaks[1]:.1f}" if plain else "",
                f"{1e3 * floor:.3f}" if floor else "",
            ]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


class Traffic:
    """Bytes that one rank sends in ring collectives, counted call by call."""

    def __init__(self, ranks: int) -> None:
        self.bytes = 0
        others = (ranks - 1) / ranks
        shares = {"all_gather": ranks - 1, "all_reduce": 2 * others, "all_to_all_single": others}
        for name, share in shares.items():
            setattr(dist, name, self._counting(getattr(dist, name), name, share))

    def _counting(self, call: Callable, name: str, share: float) -> Callable:
        def counted(*args, **kwargs):
            sent = args[0] if name == "all_reduce" else args[1]
            self.bytes += share * sent.numel() * sent.element_size()
            return call(*args, **kwargs)

        return counted


def run_rank(rank: int, ranks: int, runs: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    alone, _ = dist.new_subgroups(1)
    traffic = Traffic(ranks)
    on_gathered = E2MC(group=alone)
    split = ours(E2MC())

    def gathered(*views: Tensor) -> Tensor:
        return on_gathered(*[gather(z) for z in views]).loss

    for n, d in SHAPES["cpu"]:
        views = [z.detach()[rank::ranks].clone().requires_grad_() for z in make_views(n, d, "cpu")]
        times = medians([gathered, split], views, runs)
        megabytes = []
        for term in (gathered, split):
            traffic.bytes = 0
            step(term, views)
            megabytes.append(traffic.bytes / 1e6)
        # Products of forward and backward, and sorted columns, of both views.
        work = [8 * min(n, d) * n * d / 1e9 / share for share in (1, ranks)]
        if rank == 0:
            for way, t, mb, gflop, columns in zip(
                ("gather", "split columns"), times, megabytes, work, (d, d / ranks), strict=True
            ):
                print(
                    f"| {ranks} | {n} | {d} | {way} | {1e3 * t:.1f} | {mb:.2f} | {2 * columns:.0f} "
                    f"| {gflop:.2f} |",
                    flush=True,
                )
    dist.destroy_process_group()


def distributed_table(rank_counts: Sequence[int], runs: int) -> None:
    print("| ranks | N | D | way | ms | MB sent by a rank | columns sorted | GFLOP of products |")
    print("|---|---|---|---|---|---|---|---|")
    for ranks in rank_counts:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(run_rank, (ranks, runs, os.path.join(folder, "store")), nprocs=ranks)


def machine(device: str, threads: int) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "CPU")
    return f"{model}, {os.cpu_count()} cores, {threads} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=SHAPES, default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each")
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 4], help="gloo ranks, CPU only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"Measured on {datetime.date.today()}: {machine(args.device, args.threads)}; torch "
        f"{torch.__version__}, Python {platform.python_version()}; median of {args.runs} runs.\n"
    )
    table(args.device, args.threads, args.runs)
    if args.device == "cpu" and args.ranks:
        print("\nOne E2MC step on gloo ranks, one thread each, N the joint batch:\n")
        distributed_table(args.ranks, args.runs)


if __name__ == "__main__":
    main()
