"""Entropy and reconstruction on the unit sphere and for assignments: pure functions of tensors.

Two terms of a lower bound on the mutual information of two views, I(Z_1; Z_2) >= H(Z_2) +
E[log q(Z_2 | Z_1)]: the entropy of the embeddings, less the error of reconstructing those of one
view from those of the other, with von Mises-Fisher densities on the sphere or categorical ones for
assignments to clusters.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from e2mc.distributed import Group, all_gather, all_reduce_sum, gather, rank
from e2mc.errors import InputError, expect_known

Estimator = Literal["plug-in", "joe"]
Support = Literal["sphere", "discrete"]
ESTIMATORS, SUPPORTS = get_args(Estimator), get_args(Support)
EPSILON = 1e-7  # added to probabilities inside logarithms, as in the official code


def _debye_polynomials(count: int) -> list[list[float]]:
    """Coefficients, lowest power first, of u_0, ..., u_{count-1} of DLMF 10.41.9."""
    polynomials = [[Fraction(1)]]
    while len(polynomials) < count:
        u = polynomials[-1]
        following = [Fraction(0)] * (len(u) + 3)
        for power, c in enumerate(u):
            following[power + 1] += c * (Fraction(power, 2) + Fraction(1, 8 * (power + 1)))
            following[power + 3] -= c * (Fraction(power, 2) + Fraction(5, 8 * (power + 3)))
        polynomials.append(following)
    return [[float(c) for c in u] for u in polynomials]


DEBYE = _debye_polynomials(14)
DEBYE_ORDER = 30  # from here on the expansion is exact in float64 for every argument


def log_normaliser(kappa: float | Tensor, d: int) -> float | Tensor:
    """Logarithm of the integral of exp(kappa m . x) over the unit sphere in d dimensions.

    It is -log C_d(kappa) of the von Mises-Fisher density C_d(kappa) exp(kappa m . x):

        -log C_d(kappa) = d/2 log 2 pi + log( I_v(kappa) kappa^(-v) ),   v = d/2 - 1

    The scaled Bessel function comes from its uniform asymptotic expansion, at an order of at least
    30, and from there down to v by I_v / I_{v+1} = 2 (v+1) / kappa + I_{v+2} / I_{v+1}: no term
    underflows or cancels. The official code takes log(I_v(kappa) + 1e-7) instead, which is wrong by
    83 nats at d = 128 and kappa = 10, and by hundreds above.

    Args:
        kappa: concentration >= 0; a tensor may need its gradient, which is
            I_{d/2}(kappa) / I_{d/2-1}(kappa).
        d: >= 1.

    Returns:
        A float for a number, a float64 tensor of the shape of kappa for a tensor; at kappa = 0 the
        log of the sphere's area. Checked against mpmath for d <= 65,536 and kappa from 1e-3 to 1e4.

    Raises:
        ValueError: if d < 1.

    Source: DLMF 10.41.3, 10.41.9, 10.29.1 (dlmf.nist.gov).
    """
    if d < 1:
        raise InputError(f"a sphere needs a dimension of at least 1, found {d}.")
    # numbers stay numbers, which torch.compile folds into a constant
    of = torch if isinstance(kappa, Tensor) else math
    kappa = kappa.double() if isinstance(kappa, Tensor) else kappa
    order = d / 2 - 1
    steps = max(0, math.ceil(DEBYE_ORDER - order))
    value = _log_scaled_bessel(order + steps, kappa)
    if steps:
        ratio = of.exp(value - _log_scaled_bessel(order + steps + 1, kappa))
        for step in reversed(range(steps)):
            ratio = 2 * (order + step + 1) + kappa**2 / ratio
            value = value + of.log(ratio)
    return value + d / 2 * math.log(2 * math.pi)


def _log_scaled_bessel(order: float, x: float | Tensor) -> float | Tensor:
    """log(I_order(x) x^-order) by Debye's expansion."""
    of = torch if isinstance(x, Tensor) else math
    s = of.sqrt(1 + (x / order) ** 2)
    total = 0.0
    for k, u in reversed(list(enumerate(DEBYE))):
        value = 0.0
        for c in reversed(u):
            value = value / s + c
        total = total + value * order**-k
    return (
        order * (s - of.log(order * (1 + s))) - of.log(2 * math.pi * order * s) / 2 + of.log(total)
    )


def entropy(
    z: Tensor,
    kappa: float | Tensor = 10.0,
    estimator: Estimator = "plug-in",
    support: Support = "sphere",
    *,
    leave_one_out: bool = False,
    sizes: list[int] | None = None,
    group: Group = None,
) -> Tensor:
    """Entropy of embeddings on the unit sphere, or of assignments to clusters, in nats.

    Sphere: with the von Mises-Fisher kernel density of the N rows and its surprisals

        a_j = -log( 1/N sum_i C_d(kappa) exp(kappa z_j . z_i) )

    "joe" is their mean; "plug-in" is sum_j w_j a_j, weighted by the density, w = softmax(-a).

    Discrete: with p the mean of the N rows, "plug-in" is -sum_k p_k log(p_k + 1e-7), and "joe" is
    -mean_k log(p_k + 1e-7), the cross-entropy from the uniform law.

    Args:
        z: (N_r, D) rows of unit length, or of probabilities.
        kappa: > 0, concentration of the kernel; not used for "discrete".
        estimator: "plug-in" or "joe".
        support: "sphere" or "discrete".
        leave_one_out: leave i = j out of each density, whose kernel otherwise keeps the surprisal
            below -log C_d(kappa) - kappa + log N; sphere only.
        sizes: N_r of every rank; None means to ask for them.
        group: ranks that share a batch; None means all. Each computes its own rows' densities.

    Returns:
        A scalar; that of the joint batch on every rank.

    Raises:
        ValueError: if z is not a real (N, D) tensor, a name is unknown, kappa is not positive, or
            there is nothing to leave out.

    Complexity: O(N_r N D) time and N_r N memory on the sphere, O(N_r D) for assignments.

    Source: Rodríguez-Gálvez et al., 2023 (arXiv 2307.10907), section 4.1 and official code; Joe,
        1989, for the estimator named after him.
    """
    _check_rows(z)
    check_options(kappa, estimator, support)
    z = z if z.dtype == torch.float64 else z.float()
    if sizes is None:
        sizes = all_gather(torch.tensor(z.shape[0], device=z.device), group).tolist()
    n = sum(sizes)
    with torch.autocast(z.device.type, enabled=False):
        if support == "discrete":
            if leave_one_out:
                raise InputError("leave_one_out is for densities on the sphere, not for discrete.")
            p = all_reduce_sum(z.sum(dim=0), group) / n
            a = -(p + EPSILON).log()
            return p @ a if estimator == "plug-in" else a.mean()
        own = None
        if leave_one_out:
            own = torch.arange(z.shape[0], device=z.device) + sum(sizes[: rank(group)])
        a = gather(surprisals(z, gather(z, group, sizes), kappa, own), group, sizes)
        return estimate(a, estimator)


def surprisals(
    z: Tensor, points: Tensor, kappa: float | Tensor = 10.0, own: Tensor | None = None
) -> Tensor:
    """Negative logarithm of a von Mises-Fisher kernel density at some places of the unit sphere.

    Args:
        z: (M, D) unit rows, where.
        points: (N, D) unit rows, the sample whose density it is.
        kappa: concentration of the kernel.
        own: int64 (M,), a point to leave out for each row of z; None leaves out nothing.

    Returns:
        (M,) in nats.

    Raises:
        ValueError: if no point is left.
    """
    n = points.shape[0] - (own is not None)
    if n < 1:
        raise InputError(f"a density needs at least 1 point, or 2 to leave one out, found {n}.")
    exponents = kappa * z @ points.T
    if own is not None:
        left_out = own[:, None] == torch.arange(points.shape[0], device=z.device)
        exponents = exponents.masked_fill(left_out, -math.inf)
    constant = log_normaliser(kappa, z.shape[1]) + math.log(n)
    return constant - exponents.logsumexp(dim=1)


def estimate(surprisals: Tensor, estimator: Estimator = "plug-in") -> Tensor:
    """Entropy of a sample from the surprisals (N,) of its points, see `entropy`."""
    if estimator == "joe":
        return surprisals.mean()
    return (-surprisals).softmax(dim=0) @ surprisals


def reconstruction(
    z1: Tensor, z2: Tensor, kappa: float | Tensor = 10.0, support: Support = "sphere"
) -> Tensor:
    """Error of reconstructing one view from the other: -E[log q(z_2 | z_1)], in nats.

    Sphere: mean_n( -kappa z_1n . z_2n - log C_d(kappa) ), a von Mises-Fisher law about z_1.
    Discrete: the mean of the cross-entropies -sum_k p_1 log(p_2 + 1e-7) and
    -sum_k p_2 log(p_1 + 1e-7).

    Args:
        z1, z2: (N, D) rows of unit length, or of probabilities, of the two views.
        kappa: > 0, concentration of the law; not used for "discrete".
        support: "sphere" or "discrete".

    Returns:
        A scalar, of these rows alone: under DDP, of this rank's.

    Raises:
        ValueError: if z1 and z2 are not real (N, D) tensors of one shape, the support is unknown
            or kappa is not positive.

    Source: Rodríguez-Gálvez et al., 2023 (arXiv 2307.10907), section 4.1 and official code.
    """
    for z in (z1, z2):
        _check_rows(z)
    check_options(kappa, support=support)
    if z1.shape != z2.shape:
        raise InputError(
            f"reconstruction compares views of one shape, found {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}."
        )
    z1, z2 = (z if z.dtype == torch.float64 else z.float() for z in (z1, z2))
    if support == "discrete":
        forward, backward = z1 * (z2 + EPSILON).log(), z2 * (z1 + EPSILON).log()
        return -(forward + backward).sum(dim=1).mean() / 2
    return (log_normaliser(kappa, z1.shape[1]) - kappa * (z1 * z2).sum(dim=1)).mean()


def check_options(
    kappa: float | Tensor, estimator: Estimator = "plug-in", support: Support = "sphere"
) -> None:
    """Raise ValueError unless `entropy` takes these options."""
    expect_known(estimator, ESTIMATORS, "estimator")
    expect_known(support, SUPPORTS, "support")
    # a tensor is not looked at: that would synchronise with the device
    if not isinstance(kappa, Tensor) and not kappa > 0:
        raise InputError(f"kappa must be positive, found {kappa}")


def _check_rows(z: Tensor) -> None:
    if not isinstance(z, Tensor):
        raise InputError(f"expected a real (N, D) tensor, found a value of type {type(z).__name__}")
    if z.ndim != 2 or z.shape[1] < 1 or not z.is_floating_point():
        raise InputError(f"expected a real (N, D) tensor, found {z.dtype} of {tuple(z.shape)}.")
