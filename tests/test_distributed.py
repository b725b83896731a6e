"""Exchanges between ranks, and criteria on ranks against one process with the whole batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from e2mc import distributed
from e2mc.criteria import CRITERIA, E2MC, Criterion, CriterionOutput, create_criterion
from e2mc.distributed import Group, all_reduce_sum, exchange_columns, gather

RANKS = 4
SHAPES = [(37, 16), (13, 40), (10, 3)]  # N > D, N < D, fewer columns than ranks


def whole_batch(n: int, d: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2)]


def uneven_share(x: Tensor, rank: int, ranks: int) -> Tensor:
    """Rows of a rank; the last has fewer."""
    return x.split(math.ceil(x.shape[0] / ranks))[rank].clone()


def run(criterion: Criterion, views: list[Tensor]) -> tuple[CriterionOutput, tuple]:
    views = [z.detach().requires_grad_() for z in views]
    out = criterion(*views)
    return out, torch.autograd.grad(out.loss, views)


def check_criteria(rank: int, ranks: int, group: dist.ProcessGroup, alone: dist.ProcessGroup):
    """Value of the whole batch; W times its gradient, which an average over ranks brings back."""
    for n, d in SHAPES:
        views = whole_batch(n, d)
        shares = [uneven_share(z, rank, ranks) for z in views]
        for name in CRITERIA:
            single, gradients = run(create_criterion(name, group=alone), views)
            joint, joint_gradients = run(create_criterion(name, group=group), shares)
            torch.testing.assert_close(joint, single)
            for part, whole in zip(joint_gradients, gradients, strict=True):
                torch.testing.assert_close(part, ranks * uneven_share(whole, rank, ranks))


def check_second_derivatives(rank: int, ranks: int, group: Group, alone: Group):
    """A penalty on the gradient: W^2 times the derivative of the whole batch's."""

    def of_penalty(criterion: Criterion, views: list[Tensor]) -> tuple[Tensor, ...]:
        views = [z.detach().requires_grad_() for z in views]
        gradients = torch.autograd.grad(criterion(*views).loss, views, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), views)

    for n, d in SHAPES:
        views = whole_batch(n, d)
        shares = [uneven_share(z, rank, ranks) for z in views]
        for name in ("e2mc", "auh", "er"):  # each way to exchange
            single = of_penalty(create_criterion(name, group=alone), views)
            joint = of_penalty(create_criterion(name, group=group), shares)
            for part, whole in zip(joint, single, strict=True):
                expected = ranks**2 * uneven_share(whole, rank, ranks)
                torch.testing.assert_close(part, expected, rtol=1e-6, atol=1e-9)


def check_transforms(rank: int, ranks: int, group: Group, alone: Group):
    for n, d in SHAPES:
        views = whole_batch(n, d)
        shares = [uneven_share(z, rank, ranks) for z in views]
        for name in ("e2mc", "auh", "er"):
            single, joint = (create_criterion(name, group=g) for g in (alone, group))
            values, jacobians = [], []
            for criterion, (z1, z2) in ((single, views), (joint, shares)):

                def loss(a: Tensor, b: Tensor, criterion: Criterion = criterion) -> Tensor:
                    return criterion(a, b).loss

                pairs = [torch.stack([z, 2 * z]) for z in (z1, z2)]
                values.append(torch.vmap(loss)(*pairs))
                jacobians.append(
                    [torch.vmap(torch.func.grad(loss))(*pairs)[0], torch.func.jacrev(loss)(z1, z2)]
                )
                tangent = torch.func.jvp(loss, (z1, z2), (z1, z2))[1]
                values.append(tangent)
            torch.testing.assert_close(values[2:], values[:2])
            for part, whole in zip(jacobians[1], jacobians[0], strict=True):
                torch.testing.assert_close(part, ranks * uneven_share(whole, rank, ranks))


def check_official_gathering(rank: int, group: dist.ProcessGroup, g: dict[str, Tensor]):
    """Entropy and covariance of the official run on two ranks."""
    criterion = E2MC(mapping="logistic", epsilon=float(g["epsilon"]), batch_size=64, group=group)
    out = criterion(*[g[key].double().chunk(2)[rank] for key in ("x", "y")])
    expected = {"entropy": "ent_loss", "covariance": "hypercov_loss"}
    for term, key in expected.items():
        torch.testing.assert_close(
            out.terms[term], g[f"rank{rank}_{key}"], rtol=1e-9, atol=0, check_dtype=False
        )


def check_exchanges(rank: int):
    """Values, and gradients of losses that differ between ranks."""
    sizes = [2, 1, 3, 0]
    whole = torch.arange(18.0).view(6, 3)
    mine = whole.split(sizes)[rank].clone().requires_grad_()
    joint = gather(mine)
    assert torch.equal(joint, whole)
    assert torch.equal(gather(mine, sizes=sizes), whole)
    ((rank + 1) * joint).sum().backward()
    assert torch.equal(mine.grad, torch.full_like(mine, 1 + 2 + 3 + 4))

    mine.grad = None
    columns = exchange_columns(mine, sizes)
    assert torch.equal(columns, whole.tensor_split(RANKS, dim=1)[rank])
    ((rank + 1) * columns).sum().backward()
    assert torch.equal(mine.grad, torch.tensor([1.0, 2.0, 3.0]).expand_as(mine))

    x = torch.tensor(float(rank), requires_grad=True)
    total = all_reduce_sum(x)
    assert total == 0 + 1 + 2 + 3
    ((rank + 1) * total).backward()
    assert x.grad == 1 + 2 + 3 + 4


def train(model: nn.Module, batches: list[Tensor], group: dist.ProcessGroup | None) -> list:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion = E2MC(group=group)
    for batch in batches:
        optimizer.zero_grad()
        criterion(model(batch), model(batch.square())).loss.backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def check_training(rank: int, alone: dist.ProcessGroup):
    """DistributedDataParallel and one process on the whole batch take the same steps."""
    batches = [whole_batch(n, 5)[0] for n in (32, 32, 27)]
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6)).double())
    expected = train(models[0], batches, alone)
    shares = [uneven_share(batch, rank, RANKS) for batch in batches]
    parameters = train(DistributedDataParallel(models[1]), shares, None)
    torch.testing.assert_close(parameters, expected)


def check_nan_is_reported_everywhere(rank: int):
    z = torch.randn(3, 4)
    if rank == 2:
        z[1, 2] = math.nan
    message = "row 1, column 2" if rank == 2 else "in the embeddings of rank 2"
    with pytest.raises(ValueError, match=message):
        E2MC()(z)


def work(rank: int, folder: str, g: dict[str, Tensor]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    alone, _ = dist.new_subgroups(1)
    pair, _ = dist.new_subgroups(2)
    check_exchanges(rank)
    check_criteria(rank, RANKS, dist.group.WORLD, alone)
    check_criteria(rank % 2, 2, pair, alone)
    check_second_derivatives(rank, RANKS, dist.group.WORLD, alone)
    check_transforms(rank, RANKS, dist.group.WORLD, alone)
    check_official_gathering(rank % 2, pair, g)
    check_training(rank, alone)
    check_nan_is_reported_everywhere(rank)
    (Path(folder) / f"{rank}.done").touch()
    dist.destroy_process_group()


def test_two_and_four_ranks(golden, tmp_path):
    mp.spawn(work, (str(tmp_path), golden("gather_2ranks_icereg_64x32")), nprocs=RANKS)
    assert len(list(tmp_path.glob("*.done"))) == RANKS


def test_one_process_needs_no_group():
    x = torch.randn(3, 2)
    assert distributed.world_size() == 1 and distributed.rank() == 0
    assert gather(x) is x and all_reduce_sum(x) is x and exchange_columns(x, [3]) is x
    assert torch.equal(distributed.all_gather(x), x[None])
