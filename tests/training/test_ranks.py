"""Training on two processes equals training on one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from e2mc import progress
from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.progress import Interrupted
from e2mc.training.batch_norm import synchronise_batch_norm
from e2mc.training.loop import pretrain
from e2mc.training.spec import Component, TrainingError, TrainingSpec

VIEW = ViewRecipe(28, count=2, crop_scale=(0.3, 1.0))
METHODS = {
    "vicreg": Component("vicreg", {"expander": [16, 16, 16]}),
    "swav": Component("swav", {"hidden_dim": 16, "dim": 8, "prototypes": 10, "queue_length": 32}),
    "simsiam": Component("simsiam", {"dim": 16, "predictor_hidden_dim": 8}),
    "byol": Component("byol", {"hidden_dim": 16, "dim": 8, "ema": 0.9}),
    "deepcluster": Component("deepcluster", {"hidden_dim": 16, "dim": 8, "prototypes": [6]}),
    "anchor": Component("anchor"),
}

STOPPED = ("swav", "vicreg")  # with a state of each rank's own, and without


def spec_of(method: str) -> TrainingSpec:
    return TrainingSpec(
        backbone="resnet-small",
        method=METHODS[method],
        views=(VIEW,),
        normalisation=Normalisation((0.3,), (0.3,)),
        optimizer=OptimizerSpec("sgd", lr=0.01),
        schedule=ScheduleSpec("cosine"),
        epochs=1,
        batch_size=16,
        criteria=(Component("e2mc", {"entropy_weight": 0.1}),),
    )


class DoubleImages(ImageSet):
    """Views in double precision: rounding in single grows a thousandfold in a step."""

    def views(self, *arguments):
        for views in super().views(*arguments):
            yield [view.double() for view in views]


def images() -> ImageSet:
    pixels = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return DoubleImages((pixels * 255).byte(), torch.zeros(64, dtype=torch.long), ("a",))


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _join(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)


def _train(rank: int, folder: str) -> None:
    _join(rank, folder)
    for method in METHODS:
        pretrain(spec_of(method), images(), Path(folder) / method / "checkpoint.pt")
    # asked on the second rank alone, both stop after the same step, and go on to the same weights
    for method in STOPPED:
        if rank == 1:
            progress.request_stop()
        output = Path(folder) / f"stopped-{method}" / "checkpoint.pt"
        with pytest.raises(Interrupted, match="after step 1 of 4"):
            pretrain(spec_of(method), images(), output)
        progress.forget_stop()
        pretrain(spec_of(method), images(), output)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_train, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_equal_one_process(method, two_ranks, tmp_path):
    pretrain(spec_of(method), images(), tmp_path / "checkpoint.pt")
    alone = load_checkpoint(tmp_path / "checkpoint.pt").model
    joint = load_checkpoint(two_ranks / method / "checkpoint.pt").model
    assert alone.keys() == joint.keys()
    for key, value in alone.items():
        torch.testing.assert_close(joint[key], value, rtol=1e-6, atol=1e-9, msg=key)
    logs = [
        (folder / "training.csv").read_text().splitlines()
        for folder in (tmp_path, two_ranks / method)
    ]
    assert logs[0][0] == logs[1][0] and len(logs[1]) == 5
    first = [[float(v) for v in log[1].split(",")] for log in logs]
    names = logs[0][0].split(",")
    for name, one, two in zip(names, *first, strict=True):
        if name not in ("embedding_std", "seconds"):  # of a rank's share; of the clock
            assert two == pytest.approx(one, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("method", STOPPED)
def test_ranks_stop_at_the_same_step_and_go_on(method, two_ranks):
    stopped = load_checkpoint(two_ranks / f"stopped-{method}" / "checkpoint.pt").model
    undisturbed = load_checkpoint(two_ranks / method / "checkpoint.pt").model
    assert all(torch.equal(stopped[key], undisturbed[key]) for key in undisturbed)


def _normalise(rank: int, folder: str, x: torch.Tensor) -> None:
    _join(rank, folder)
    share = x.tensor_split([5])[rank].clone().requires_grad_()  # 5 and 3 rows
    layer = nn.Sequential(nn.BatchNorm2d(4)).double()
    synchronise_batch_norm(layer)
    y = layer(share)
    y.pow(3).sum().backward()
    result = {"y": y.detach(), "grad": share.grad, "state": layer.state_dict()}
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_batch_norm_of_uneven_shares_is_that_of_the_joint_batch(tmp_path):
    x = torch.randn(8, 4, 3, 3, dtype=torch.float64)
    mp.spawn(_normalise, (str(tmp_path), x), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    layer = nn.Sequential(nn.BatchNorm2d(4)).double()
    alone = x.clone().requires_grad_()
    y = layer(alone)
    y.pow(3).sum().backward()
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y.detach())
    torch.testing.assert_close(torch.cat([part["grad"] for part in parts]), alone.grad)
    for key, value in layer.state_dict().items():
        torch.testing.assert_close(parts[1]["state"][key], value)


def test_state_of_another_number_of_processes_is_refused(tmp_path):
    from e2mc.training import loop

    run = loop._Training(spec_of("simsiam"), images(), None, "cpu")
    path = tmp_path / "checkpoint.pt.state"
    run.save(path)
    state = torch.load(path, weights_only=True)
    torch.save(state | {"processes": 2}, path)
    with pytest.raises(TrainingError, match="written by 2 processes, this run has 1"):
        run.resume(path)
