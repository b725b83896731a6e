"""Methods on two processes: the official gathered gradients, and equality with one process."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from e2mc.criteria import E2MC
from e2mc.methods import create_method
from e2mc.methods.base import frozen_copy
from e2mc.methods.swav import SwAV, sinkhorn
from e2mc.methods.vicreg import vicreg_loss

RANKS = 2


def _vicreg(rank: int, g: dict) -> dict:
    x, y = (g[key].double().chunk(RANKS)[rank].clone().requires_grad_() for key in ("x", "y"))
    criterion = E2MC(10.0, 1.0, mapping="logistic", epsilon=float(g["epsilon"]), batch_size=64)
    loss, _ = vicreg_loss(x, y, batch_size=64)
    (loss + criterion(x, y).loss).backward()
    return {"loss": loss.detach(), "grad_x": x.grad, "grad_y": y.grad}


def _swav(views: list[torch.Tensor], prototypes: torch.Tensor) -> dict:
    """Three steps on one process's share of the views, the last with a full queue of 16 rows."""
    backbone = nn.Identity()
    backbone.feature_dim = 4
    method = SwAV(backbone, dim=4, prototypes=6, queue_length=16).double()
    method.projector = nn.Identity()
    with torch.no_grad():
        method.prototypes.weight.copy_(prototypes)
    model = DistributedDataParallel(method) if dist.is_initialized() else method
    losses = []
    for step in views:
        loss = model(step).loss
        loss.backward()
        losses.append(loss.detach())
    gradient = method.prototypes.weight.grad
    return {"losses": torch.stack(losses), "gradient": gradient, "queue": method.queue}


LINEAR = {
    "simclr": {},
    "byol": {},
    "dino": {"prototypes": 6},
    "deepcluster": {"prototypes": (3, 2)},
}


def _linear(name: str, objective: str, views: list[torch.Tensor], indices: torch.Tensor) -> dict:
    """Two batches of a method without BatchNorm, on one process's share of 8 images."""
    backbone = nn.Identity()
    backbone.feature_dim = 4
    torch.manual_seed(0)
    method = create_method(name, backbone, dim=4, objective=objective, **LINEAR[name]).double()
    method.projector = nn.Linear(4, 4).double()
    if name == "byol":
        method.predictor = nn.Linear(4, 4).double()
        method.target_projector = frozen_copy(method.projector)
    if name == "dino":
        method.teacher_projector = frozen_copy(method.projector)
    method.begin_run(8)
    model = DistributedDataParallel(method) if dist.is_initialized() else method
    generator = torch.Generator().manual_seed(0)
    method.begin_epoch(generator, lambda: iter([(indices, list(views[0][:2]))]))
    losses = []
    for step in views[:2]:
        method.begin_step(indices)
        loss = model(list(step[:2])).loss
        loss.backward()
        method.end_step(0.5)
        losses.append(loss.detach())
    state = {key: value.clone() for key, value in method.state_dict().items()}
    gradient = method.projector.weight.grad
    return {"losses": torch.stack(losses), "gradient": gradient, "state": state}


def _shard(views: list[torch.Tensor], rank: int) -> list[torch.Tensor]:
    return [step.chunk(RANKS, dim=1)[rank] for step in views]


def _work(rank: int, folder: str, g: dict, scores: torch.Tensor, views: list, w: torch.Tensor):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    result = {
        "vicreg": _vicreg(rank, g),
        "sinkhorn": sinkhorn(scores.chunk(RANKS)[rank]),
        "swav": _swav(_shard(views, rank), w),
    }
    own = torch.arange(8).chunk(RANKS)[rank]
    for name in LINEAR:
        for objective in ("own", "er"):
            result[name, objective] = _linear(name, objective, _shard(views, rank), own)
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks(golden, same_value, same_gradient, tmp_path):
    g = golden("gather_2ranks_icereg_64x32")
    torch.manual_seed(0)
    scores = torch.rand(24, 6, dtype=torch.float64) * 2 - 1
    views = [torch.randn(3, 8, 4, dtype=torch.float64) for _ in range(3)]
    prototypes = torch.randn(6, 4, dtype=torch.float64)
    mp.spawn(_work, (str(tmp_path), g, scores, views, prototypes), nprocs=RANKS)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]

    for rank, result in enumerate(results):
        same_value(result["vicreg"]["loss"], g[f"rank{rank}_vicreg_loss"])
        same_gradient(result["vicreg"]["grad_x"], g[f"rank{rank}_grad_x"])
        same_gradient(result["vicreg"]["grad_y"], g[f"rank{rank}_grad_y"])

    joint = torch.cat([result["sinkhorn"] for result in results])
    torch.testing.assert_close(joint, sinkhorn(scores))

    single = _swav(views, prototypes)
    shares = [result["swav"] for result in results]
    assert [share["queue"].shape[1] for share in shares] == [8, 8]
    assert not torch.equal(shares[0]["queue"], shares[1]["queue"])
    mean = sum(share["losses"] for share in shares) / RANKS
    torch.testing.assert_close(mean, single["losses"])
    for share in shares:
        torch.testing.assert_close(share["gradient"], single["gradient"])

    for name in LINEAR:
        for objective in ("own", "er"):
            single = _linear(name, objective, views, torch.arange(8))
            shares = [result[name, objective] for result in results]
            mean = sum(share["losses"] for share in shares) / RANKS
            torch.testing.assert_close(mean, single["losses"])
            for share in shares:
                torch.testing.assert_close(share["gradient"], single["gradient"])
                torch.testing.assert_close(share["state"], single["state"])
