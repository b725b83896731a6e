"""Ranks, and exchanges between them whose gradient is the exact transpose.

Every function does next to nothing on one process. What is differentiated is the sum of the losses
of all ranks: a loss that each of W ranks computes of the joint batch gives a rank W times the
gradient that one process on the whole batch would give it, and DistributedDataParallel's average
over the ranks then is that of one process. Every rank has to take part in forward and backward.
They can be differentiated as often as wanted, and work inside the transforms of `torch.func`.

Tested with gloo on CPU; NCCL on several GPUs is untested.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

Group = Any  # dist.ProcessGroup or None for all ranks; torch may be built without distributed


def world_size(group: Group = None) -> int:
    """Number of ranks in the group; 1 without a process group."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank(group: Group = None) -> int:
    """Rank of this process in the group; 0 without a process group."""
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def all_gather(x: Tensor, group: Group = None) -> Tensor:
    """Tensors of one shape from all ranks as (W, *shape), without gradient."""
    if world_size(group) == 1:
        return x.detach()[None]
    parts = [torch.empty_like(x) for _ in range(world_size(group))]
    dist.all_gather(parts, x.detach().contiguous(), group=group)
    return torch.stack(parts)


def all_reduce_sum(x: Tensor, group: Group = None) -> Tensor:
    """Sum over the ranks, on every rank; its gradient is summed over the ranks, too."""
    return x if world_size(group) == 1 else _AllReduceSum.apply(x, group)


def gather(x: Tensor, group: Group = None, sizes: list[int] | None = None) -> Tensor:
    """Batches of all ranks one after another, on every rank; the gradient is summed over the ranks.

    Args:
        x: (N_r, ...), with an N_r of its own on every rank.
        group: process group; None means all ranks.
        sizes: N_r of every rank; None means to ask for them, which synchronises with the device.

    Returns:
        (N, ...) with N the sum of all N_r, in rank order.
    """
    if world_size(group) == 1:
        return x
    if sizes is None:
        sizes = all_gather(torch.tensor(x.shape[0], device=x.device), group).tolist()
    return _Gather.apply(x, sizes, group)


def exchange_columns(x: Tensor, sizes: list[int], group: Group = None) -> Tensor:
    """Trade rows of all columns for all rows of some columns.

    A W-th of the bytes that `gather` moves, and work per column is shared instead of repeated.

    Args:
        x: (N_r, D) rows of this rank.
        sizes: N_r of every rank.
        group: process group; None means all ranks.

    Returns:
        (N, D_r): rows of all ranks in rank order, columns that belong to this rank (none where
        there are more ranks than columns), split as by `torch.tensor_split`.
    """
    return x if world_size(group) == 1 else _ExchangeColumns.apply(x, sizes, group)


class _AllReduceSum(Function):
    @staticmethod
    def forward(x: Tensor, group: Group) -> Tensor:
        return _sum(x, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _AllReduceSum.apply(grad, ctx.group), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _AllReduceSum.apply(tangent, ctx.group)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, group: Group) -> tuple[Tensor, int]:
        return _AllReduceSum.apply(x, group), in_dims[0]


class _Gather(Function):
    @staticmethod
    def forward(x: Tensor, sizes: list[int], group: Group) -> Tensor:
        # Not every backend gathers tensors of several lengths.
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: x.shape[0]] = x
        parts = all_gather(padded, group)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.sizes, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        parts = _AllReduceSum.apply(grad, ctx.group).split(ctx.sizes)
        return parts[rank(ctx.group)], None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Gather.apply(tangent, ctx.sizes, ctx.group)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, sizes: list[int], group: Group) -> Any:
        # rows stay in front
        return _Gather.apply(x.movedim(in_dims[0], -1), sizes, group), x.ndim - 1


class _ExchangeColumns(Function):
    """Rows (N_r, D, ...) of this rank to columns (N, D_r, ...)."""

    @staticmethod
    def forward(x: Tensor, sizes: list[int], group: Group) -> Tensor:
        blocks = x.tensor_split(world_size(group), dim=1)
        width = blocks[rank(group)].shape[1]
        received = x.new_empty(sum(sizes), width, *x.shape[2:])
        depth = x.shape[2:].numel()
        dist.all_to_all_single(
            received.view(-1),
            torch.cat([block.flatten() for block in blocks]),
            [n * width * depth for n in sizes],
            [block.numel() for block in blocks],
            group=group,
        )
        return received

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, ctx.sizes, ctx.group = inputs
        ctx.columns = x.shape[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _ExchangeRows.apply(grad, ctx.columns, ctx.sizes, ctx.group), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _ExchangeColumns.apply(tangent, ctx.sizes, ctx.group)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, sizes: list[int], group: Group) -> Any:
        return _ExchangeColumns.apply(x.movedim(in_dims[0], -1), sizes, group), x.ndim - 1


class _ExchangeRows(Function):
    """The way back: columns (N, D_r, ...) of this rank to rows (N_r, D, ...)."""

    @staticmethod
    def forward(x: Tensor, columns: int, sizes: list[int], group: Group) -> Tensor:
        n, depth = sizes[rank(group)], x.shape[2:].numel()
        split = torch.empty(columns, device="meta").tensor_split(world_size(group))
        counts = [n * len(part) * depth for part in split]
        received = x.new_empty(sum(counts))
        dist.all_to_all_single(
            received,
            x.contiguous().view(-1),
            counts,
            [m * x.shape[1] * depth for m in sizes],
            group=group,
        )
        blocks = zip(received.split(counts), split, strict=True)
        return torch.cat([block.view(n, len(w), *x.shape[2:]) for block, w in blocks], dim=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.columns, ctx.sizes, ctx.group = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _ExchangeColumns.apply(grad, ctx.sizes, ctx.group), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _ExchangeRows.apply(tangent, ctx.columns, ctx.sizes, ctx.group)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, x: Tensor, columns: int, sizes: list[int], group: Group
    ) -> Any:
        return _ExchangeRows.apply(x.movedim(in_dims[0], -1), columns, sizes, group), x.ndim - 1


def _sum(x: Tensor, group: Group) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
