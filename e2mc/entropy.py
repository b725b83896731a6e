"""Maps to the unit cube, m-spacings entropy, off-diagonal covariance: pure functions of a tensor.

Both statistics write their gradient down in the forward pass, so that one (N, D) tensor beside
their argument is all they keep for the backward pass (autograd would keep the sorted copy, its
8-byte order, the spacings and a D x D matrix). Where a graph of the gradient is wanted
(`create_graph=True`), and inside the transforms of `torch.func`, autograd differentiates a plain
transcription instead, as often as asked. They run in float32 or better also inside autocast, and
work under torch.compile without graph breaks. CPU and CUDA are meant; MPS is untested.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.forward_ad import unpack_dual

from e2mc.errors import InputError, expect_known


def normal_cdf(z: Tensor) -> Tensor:
    """Standard normal distribution function, Phi(z) = erfc(-z / sqrt 2) / 2.

    This form keeps its relative precision in the lower tail, where (1 + erf(z / sqrt 2)) / 2
    rounds to 0; in float32 both round to 1 above z = 5.4.

    Args:
        z: any shape, any real number.

    Returns:
        Values in [0, 1], of the shape of z.
    """
    return torch.erfc(z * -math.sqrt(0.5)).mul_(0.5)


def normal_density(z: Tensor) -> Tensor:
    """Derivative of `normal_cdf`, exp(-z^2 / 2) / sqrt(2 pi)."""
    return z.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))


def logistic(z: Tensor) -> Tensor:
    """Logistic distribution function, 1 / (1 + exp(-z)).

    Args:
        z: any shape, any real number.

    Returns:
        Values in [0, 1], of the shape of z.
    """
    return torch.sigmoid(z)


def logistic_density(z: Tensor) -> Tensor:
    """Derivative of `logistic`, 1 / ((1 + exp(-z)) (1 + exp(z)))."""
    return torch.sigmoid(z).mul_((-z).sigmoid_())


class Mapping(NamedTuple):
    """A symmetric distribution function, F(-z) = 1 - F(z), and its density."""

    cdf: Callable[[Tensor], Tensor]
    density: Callable[[Tensor], Tensor]


MAPPINGS = {
    "normal": Mapping(normal_cdf, normal_density),
    "logistic": Mapping(logistic, logistic_density),
}


def marginal_entropy(u: Tensor, *, window: int | None = None, epsilon: float = 2**-23) -> Tensor:
    """Differential entropy of each column, estimated from the m-spacings of its N values.

    With a column in ascending order u_(1) <= ... <= u_(N), in nats:

        H = 1/(N-m) sum_{i=1}^{N-m} log( (N+1)/m (u_(i+m) - u_(i)) + epsilon )

    In the unit cube the entropy is at most 0, that of the uniform distribution. The estimate has no
    bias correction: for uniform columns it is near log m - digamma(m), -0.02 at N = 512, so
    estimates at different N do not compare. Its gradient by one value is at most
    (N+1) / (m (N-m) epsilon) and comes near that only where more than m values are equal; how
    equal values share a gradient is arbitrary.

    Args:
        u: (N, D) with N >= 2, usually in the unit cube; any other interval is right as well.
        window: m, from 1 to N - 1; None means round(sqrt(N)).
        epsilon: >= 0, keeps the logarithm finite when spacings vanish.

    Returns:
        (D,) entropies in nats, float32 or float64.

    Raises:
        ValueError: if u is not a real (N, D) tensor with N >= 2, or m or epsilon is out of range.

    NaN is not looked for here (the criteria do); it makes its column's entropy NaN.

    Complexity: O(D N log N) time, one (N, D) tensor kept beside u for the backward pass.

    Source: Vasicek, 1976; the variant without padding is van Es, 1992, less his bias correction.
    """
    return _spacings_entropy(u, None, window, epsilon)


def mapped_entropy(
    z: Tensor, mapping: str, *, window: int | None = None, epsilon: float = 2**-23
) -> Tensor:
    """`marginal_entropy` of mapping(z), with spacings as precise in both tails.

    In floating point F(z) rounds to 1 in the upper tail long before 1 - F(z) = F(-z) rounds to 0.
    Hence a spacing that lies rather above 0 is measured on F(-z). In float32, at N = 512 and
    standard deviation 3, gradients through the normal map are then right to 1e-5 of the largest,
    where otherwise their error can exceed it.

    Args:
        z: (N, D) embeddings with N >= 2.
        mapping: "normal" or "logistic".
        window, epsilon: see `marginal_entropy`.

    Returns:
        (D,) entropies in nats, float32 or float64.

    Raises:
        ValueError: as `marginal_entropy`, or if the mapping is unknown.
    """
    expect_known(mapping, MAPPINGS, "mapping")
    return _spacings_entropy(z, MAPPINGS[mapping], window, epsilon)


def _spacings_entropy(
    x: Tensor, mapping: Mapping | None, window: int | None, epsilon: float
) -> Tensor:
    x = _at_least_float32(x)
    n = x.shape[0]
    m = round(math.sqrt(n)) if window is None else window
    if not isinstance(m, int) or not 1 <= m < n:
        raise InputError(f"window must be a whole number from 1 to N - 1 = {n - 1}, found {m}.")
    if not epsilon >= 0:
        raise InputError(f"epsilon must not be negative, found {epsilon}.")
    if transformed() or _has_tangent(x):
        return _plain_entropy(x, mapping, m, epsilon)
    return _SpacingsEntropy.apply(x, mapping, m, epsilon)


def _plain_entropy(x: Tensor, mapping: Mapping | None, m: int, epsilon: float) -> Tensor:
    """`_SpacingsEntropy` in operations that autograd knows."""
    values = x.T.sort(dim=1).values
    arguments = _spacings(values, mapping, m) * ((x.shape[0] + 1) / m) + epsilon
    return arguments.log().mean(dim=1)


class _SpacingsEntropy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mapping: Mapping | None, m: int, epsilon: float) -> Tensor:
        # Blocks of columns bound the memory of what lies between x and the result.
        elements = 2**18 if x.device.type == "cpu" else 2**24
        blocks = x.split(max(1, elements // x.shape[0]), dim=1)
        if not ctx.needs_input_grad[0]:
            return torch.cat([_block_entropy(block, mapping, m, epsilon) for block in blocks])
        gradient = torch.empty_like(x)
        ctx.save_for_backward(x, gradient)
        ctx.options = mapping, m, epsilon
        parts = gradient.split(blocks[0].shape[1], dim=1)
        return torch.cat(
            [
                _block_entropy(block, mapping, m, epsilon, part)
                for block, part in zip(blocks, parts, strict=True)
            ]
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, gradient = ctx.saved_tensors
        if _wants_graph():
            gradient = _with_graph(lambda x: _plain_entropy(x, *ctx.options), x, grad)
            return gradient, None, None, None
        return gradient * grad, None, None, None


def _block_entropy(
    x: Tensor, mapping: Mapping | None, m: int, epsilon: float, gradient: Tensor | None = None
) -> Tensor:
    """Entropy of each column of x; its derivative by x goes to `gradient`, where given."""
    n = x.shape[0]
    scale = (n + 1) / m
    values, order = _sort(x.T.contiguous())
    arguments = _spacings(values, mapping, m).mul_(scale).add_(epsilon)
    entropy = arguments.log().mean(dim=1)
    if gradient is not None:
        by_spacing = arguments.reciprocal_().mul_(scale / (n - m))
        by_value = torch.zeros_like(values)
        by_value[:, m:] += by_spacing
        by_value[:, :-m] -= by_spacing
        if mapping is not None:
            by_value *= mapping.density(values)
        gradient.copy_(values.scatter_(1, order, by_value).T)
    return entropy


def _sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending rows, and the order that makes them so."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        values, order = x.sort(dim=1)
        return values, order
    # A CPU sorts numbers faster than pairs: here the order-preserving bits of the value, then its
    # position.
    bits = x.view(torch.int32)
    bits = bits ^ (bits >> 31).bitwise_and_(0x7FFFFFFF)
    keys = bits.long().bitwise_left_shift_(32).add_(torch.arange(x.shape[1], device=x.device))
    order = keys.sort(dim=1).values.bitwise_and_(0xFFFFFFFF)
    return x.gather(1, order), order


def _spacings(x: Tensor, mapping: Mapping | None, m: int) -> Tensor:
    """F(x_(i+m)) - F(x_(i)) of ascending rows."""
    if mapping is None:
        return x[:, m:] - x[:, :-m]
    lower, upper = mapping.cdf(x), mapping.cdf(-x)
    return torch.where(
        x[:, m:] + x[:, :-m] < 0, lower[:, m:] - lower[:, :-m], upper[:, :-m] - upper[:, m:]
    )


def offdiagonal_covariance(u: Tensor, *, divisor: float | None = None) -> Tensor:
    """Sum of the squared covariances of distinct columns, over D.

    With X = u minus its column means and C = X^T X / divisor:

        1/D sum_{i != j} C_ij^2 = ( ||X X^T||_F^2 - sum_d (sum_n x_nd^2)^2 ) / (divisor^2 D)

    The right side needs no D x D matrix; it is taken where N < D.

    Args:
        u: (N, D) with N >= 2.
        divisor: > 0; None means N - 1.

    Returns:
        A scalar >= 0, float32 or float64; 0 for D = 1.

    Raises:
        ValueError: if u is not a real (N, D) tensor with N >= 2 and D >= 1, or the divisor is not
            positive.

    Complexity: O(N D min(N, D)) time; an (N, D) tensor kept beside u for the backward pass, and
    min(N, D)^2 numbers in the forward pass. Where N < D, the subtraction costs the digits by which
    the off-diagonal sum is smaller than the whole.

    Source: E2MC's covariance term, and that of VICReg (Bardes et al., 2022, equation 4).
    """
    u = _at_least_float32(u)
    return block_covariance(u, *u.shape, divisor=divisor)


def block_covariance(
    block: Tensor,
    n: int,
    d: int,
    *,
    divisor: float | None = None,
    mapping: Mapping | None = None,
    total: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """`offdiagonal_covariance` of an (n, d) tensor of which every rank has a block.

    Args:
        block: columns (n, D_r) where n < d, else rows (N_r, d), so that the Gram matrix of the
            whole is the sum of those of the blocks.
        n, d: shape of the whole.
        divisor: see `offdiagonal_covariance`.
        mapping: applied to the block first.
        total: sum over the ranks, in the forward and in the backward pass.

    Returns:
        The scalar of the whole, on every rank.
    """
    divisor = n - 1 if divisor is None else divisor
    if not divisor > 0:
        raise InputError(f"divisor must be positive, found {divisor}.")
    if d < 1:
        raise InputError("the covariance of no columns is not defined, expected D >= 1.")
    if transformed() or _has_tangent(block):
        return _plain_covariance(block, n, d, divisor, mapping, total)
    return _OffdiagonalCovariance.apply(block, n, d, divisor, mapping, total)


def _plain_covariance(
    block: Tensor,
    n: int,
    d: int,
    divisor: float,
    mapping: Mapping | None,
    total: Callable[[Tensor], Tensor],
) -> Tensor:
    """`_OffdiagonalCovariance` in operations that autograd knows."""
    x = block if mapping is None else mapping.cdf(block)
    if n < d:
        x = x - x.mean(dim=0)
        gram, diagonal = total(x @ x.T), total(x.square().sum(dim=0).square().sum())
    else:
        x = x - total(x.sum(dim=0)) / n
        gram = total(x.T @ x)
        diagonal = gram.diagonal().square().sum()
    return (gram.square().sum() - diagonal) / (divisor**2 * d)


class _OffdiagonalCovariance(Function):
    @staticmethod
    def forward(
        ctx: Any,
        block: Tensor,
        n: int,
        d: int,
        divisor: float,
        mapping: Mapping | None,
        total: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.total, ctx.options = total, (n, d, divisor, mapping, total)
        scale = 1 / (divisor**2 * d)
        x = block if mapping is None else mapping.cdf(block)
        # Centring needs no backward: the columns of the gradient by x sum to zero.
        with torch.autocast(block.device.type, enabled=False):
            if n < d:
                x = x - x.mean(dim=0)
                gram = total(x @ x.T)
                squares = torch.linalg.vector_norm(x, dim=0).square()
                value = gram.square().sum() - total(squares.square().sum())
            else:
                x = x - total(x.sum(dim=0)) / n
                gram = total(x.T @ x).fill_diagonal_(0)
                value = gram.square().sum()
            if ctx.needs_input_grad[0]:
                gradient = (gram @ x).addcmul_(x, squares, value=-1) if n < d else x @ gram
                if mapping is not None:
                    gradient *= mapping.density(block)
                ctx.save_for_backward(block, gradient.mul_(4 * scale))
        return value * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        block, gradient = ctx.saved_tensors
        if _wants_graph():
            gradient = _with_graph(lambda x: _plain_covariance(x, *ctx.options), block, grad)
            return gradient, None, None, None, None, None
        return gradient * ctx.total(grad), None, None, None, None, None


def transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, jacrev, ...) is at work here."""
    # torch's own Function asks the same
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _has_tangent(x: Tensor) -> bool:
    """Whether derivatives are carried forward, as inside `torch.autograd.forward_ad`."""
    return not torch.compiler.is_compiling() and unpack_dual(x).tangent is not None


def _wants_graph() -> bool:
    """Whether a backward pass shall have a graph itself; a compiled one cannot."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _with_graph(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    """The product of ``grad`` with the Jacobian of a function at x, with a graph."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.autograd.grad(function(x), x, grad, create_graph=True)[0]


def _at_least_float32(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        raise InputError(f"expected a real (N, D) tensor, found a value of type {type(x).__name__}")
    if x.ndim != 2 or x.shape[0] < 2 or not x.is_floating_point():
        raise InputError(
            f"expected a real (N, D) tensor with N >= 2, found {x.dtype} of shape {tuple(x.shape)}."
        )
    return x if x.dtype == torch.float64 else x.float()
