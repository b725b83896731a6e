"""What every add-on criterion is: views in, one weighted loss and its named terms out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd import Function

from e2mc.distributed import Group, all_gather, all_reduce_sum, world_size
from e2mc.entropy import Mapping, block_covariance, transformed
from e2mc.errors import InputError

Terms = dict[str, tuple[float, Tensor]]  # name: (weight in the loss, value)


class CriterionOutput(NamedTuple):
    """`loss` is the weighted sum to add to another loss; `terms` are its parts, detached."""

    loss: Tensor
    terms: dict[str, Tensor]


class _WithoutVmap(Function):
    """The identity, which refuses to be one for each member of a batch of vmap."""

    @staticmethod
    def forward(x: Tensor, name: str) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, name: str) -> NoReturn:
        raise InputError(
            f"{name} remembers its batches in training mode and can only be given one at a time, "
            f"found {info.batch_size} in torch.vmap: call eval() on the criterion first"
        )


class Criterion(nn.Module):
    """Add-on criterion of embeddings: `criterion(*views)` with one (N, D) tensor per view.

    Under DistributedDataParallel each rank passes its own rows, as many as it has; loss and terms
    are those of the joint batch, on every rank, and the averaged parameter gradients are those of
    one process with the whole batch. Do not divide by the number of ranks. Inside autocast the
    criterion computes in float32 (float64 stays float64).

    Under torch.compile there is no graph break on one process, and no check for NaN; the exchanges
    between ranks break the graph. It can be differentiated more than once (`create_graph=True`)
    and inside the transforms of `torch.func`, where there is no check for NaN either. Activation
    checkpointing gives the same gradients, and moves a state once. CPU and CUDA are meant; MPS is
    untested.

    Attributes:
        views: which views the criterion wants: "global" for the large crops alone, or "all".
        group: ranks that share a batch; None means all, or this process where there is no process
            group.
        check_finite: whether NaN and infinity raise, at the price of one synchronisation with the
            device per call (between ranks there is one in any case, for their batch sizes).
    """

    views: ClassVar[Literal["global", "all"]] = "global"

    def __init__(self, group: Group = None, check_finite: bool = True) -> None:
        super().__init__()
        self.group = group
        self.check_finite = check_finite
        self._last_batch: Tensor | None = None  # what tells it from others, see `recomputed`

    def forward(self, *views: Tensor) -> CriterionOutput:
        """Compute the loss of one embedding per view.

        Args:
            views: (N_r, D) each, not normalised, all of one shape; the ranks together have at
                least 2 rows. Of several precisions the widest is taken, or float32.

        Raises:
            ValueError: if it is not tensors that are given, their shapes, dtypes or devices do not
                fit, or a value is not finite.
        """
        terms = self.weighted_terms(views)
        # Not 1 * term: the compiler would return the term itself, and so the detached one.
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return CriterionOutput(loss, {name: term.detach() for name, (_, term) in terms.items()})

    def weighted_terms(self, views: Sequence[Tensor]) -> Terms:
        """Name -> weight and term, with gradient; checks and errors are those of `forward`."""
        self._check_views(views)
        with torch.autocast(views[0].device.type, enabled=False):
            double = any(z.dtype == torch.float64 for z in views)
            wide = [z.double() if double else z.float() for z in views]
            return self.compute(wide, self._sizes(wide))

    def compute(self, views: list[Tensor], sizes: list[int]) -> Terms:
        """Terms of checked views; `sizes` is the number of rows on every rank."""
        raise NotImplementedError

    def ideal_embeddings(self, rows: int, width: int, generator: torch.Generator) -> Tensor:
        """(N, D) embeddings that the first term asks for: independent standard normal ones.

        Normalised they are uniform on the sphere.
        """
        return torch.randn(rows, width, generator=generator)

    def total(self, x: Tensor) -> Tensor:
        """Sum over the ranks, with gradient."""
        return all_reduce_sum(x, self.group)

    def recomputed(self, views: list[Tensor]) -> bool:
        """Whether activation checkpointing repeats the last call in training mode.

        A criterion that remembers its batches asks this in `compute`: what such a call would do to
        its state has been done. Calls within a backward pass are repetitions.

        Raises:
            ValueError: if it repeats a call before the last one, whose state is gone.
        """
        if not self.training or torch.compiler.is_compiling() or transformed():
            return False
        batch = torch.stack([z.detach().sum(dim=0) for z in views])
        if torch._C._current_graph_task_id() == -1:
            self._last_batch = batch
            return False
        last = self._last_batch
        # a repetition may differ in its last digits
        if last is None or last.shape != batch.shape or (batch - last).norm() > 1e-4 * last.norm():
            raise InputError(
                f"{type(self).__name__} remembers its batches in training mode and was called "
                "again before activation checkpointing repeated this call: call it outside of "
                "the part that is checkpointed, or do one backward pass after each call"
            )
        return True

    def remembered(self, x: Tensor) -> Tensor:
        """What goes into a buffer, without gradient.

        Raises:
            ValueError: if it would be one for each member of a batch of vmap.
        """
        return _WithoutVmap.apply(x.detach(), type(self).__name__) if transformed() else x.detach()

    def covariance(
        self,
        rows: Tensor,
        columns: Tensor,
        sizes: list[int],
        mapping: Mapping | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """`offdiagonal_covariance` of the joint batch, mapped to the unit cube or not.

        The smaller Gram matrix of the two is the one that is computed and summed over the ranks.

        Args:
            rows: (N_r, D) rows of this rank.
            columns: (N, D_r), the same after `exchange_columns`.
            batch_size: its predecessor is the divisor; None means the size N of the joint batch.
        """
        n, d = sum(sizes), rows.shape[1]
        return block_covariance(
            columns if n < d else rows,
            n,
            d,
            divisor=(batch_size or n) - 1,
            mapping=mapping,
            total=self.total,
        )

    def _check_views(self, views: Sequence[Tensor]) -> None:
        for z in views:
            if not isinstance(z, Tensor):
                raise InputError(
                    f"{type(self).__name__} expects one (N, D) tensor per view, found a value of "
                    f"type {type(z).__name__}: call criterion(z1, z2), or criterion(*views) with a "
                    "list of views"
                )
        shapes = [tuple(z.shape) for z in views]
        if not views or len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][1] < 1:
            raise InputError(
                f"{type(self).__name__} expects one (N, D) tensor per view, all of one shape, "
                f"found {', '.join(map(str, shapes)) or 'no view'}."
            )
        if not all(z.is_floating_point() for z in views):
            raise InputError(
                f"{type(self).__name__} expects real embeddings, found "
                f"{', '.join(str(z.dtype) for z in views)}."
            )
        if len({z.device for z in views}) > 1:
            raise InputError(
                f"{type(self).__name__} expects all views on one device, found "
                f"{', '.join(str(z.device) for z in views)}."
            )

    def _sizes(self, views: list[Tensor]) -> list[int]:
        """Number of rows on every rank, after a look for NaN and infinity on all of them."""
        n = views[0].shape[0]
        check = self.check_finite and not (torch.compiler.is_compiling() or transformed())
        sizes = [n]
        if check or world_size(self.group) > 1:
            ends = [end for z in views for end in torch.aminmax(z.detach())] if check and n else []
            zero = torch.zeros((), dtype=views[0].dtype, device=views[0].device)
            finite = torch.stack([*ends, zero]).isfinite().all()
            # All ranks hear of it, or those without NaN would wait for the others forever.
            facts = all_gather(
                torch.stack([torch.full_like(finite, n, dtype=torch.long), finite]), self.group
            )
            sizes, all_finite = facts.T.tolist()
            if not all(all_finite):
                raise InputError(self._describe(views, all_finite.index(False)))
        if sum(sizes) < 2:
            raise InputError(f"{type(self).__name__} expects at least 2 rows, found {sum(sizes)}.")
        return sizes

    def _describe(self, views: list[Tensor], first_rank: int) -> str:
        name, advice = type(self).__name__, "lower the learning rate or check the data."
        bad = [(~z.isfinite()).nonzero() for z in views]
        if not any(map(len, bad)):
            return f"{name}: NaN or infinity in the embeddings of rank {first_rank}; {advice}"
        view = next(v for v, positions in enumerate(bad) if len(positions))
        row, column = bad[view][0].tolist()
        return (
            f"{name}: {sum(map(len, bad))} embedding values are NaN or infinite, the first in view "
            f"{view} of shape {tuple(views[view].shape)} at row {row}, column {column}; {advice}"
        )
