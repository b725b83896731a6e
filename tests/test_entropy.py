"""Entropy and covariance against the official values, scipy, closed forms and invariances."""

from __future__ import annotations

import math

import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from e2mc.entropy import (
    MAPPINGS,
    _sort,
    logistic,
    mapped_entropy,
    marginal_entropy,
    normal_cdf,
    offdiagonal_covariance,
)

SHAPES = st.tuples(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**31))
few = settings(max_examples=30, deadline=None)


def normal(n: int, d: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def gradient(function, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    function(x).backward()
    return x.grad


def plain_covariance(u: torch.Tensor, divisor: float) -> torch.Tensor:
    u = u - u.mean(dim=0)
    c = u.T @ u / divisor
    return (c - c.diag().diag()).square().sum() / u.shape[1]


@pytest.mark.parametrize("epsilon, key", [(1e-7, "f64_eps1e-07"), (2**-23, "f64_eps1.19e-07")])
def test_entropy_is_the_official_one(golden, same_value, epsilon, key):
    g = golden("mspacing_raw_100x6")
    same_value(marginal_entropy(g["x"].double(), epsilon=epsilon), g[key])


@given(SHAPES, st.integers(1, 39))
@few
def test_entropy_is_that_of_van_es_less_a_constant(shape, window):
    n, d, seed = shape
    n += 1
    m = min(window, (n - 1) // 2)  # scipy wants 2 m < N
    x = normal(n, d, seed)
    constant = sum(1 / k for k in range(m, n + 1)) + math.log(m / (n + 1))
    oracle = scipy.stats.differential_entropy(x.numpy(), window_length=m, method="van es")
    expected = torch.from_numpy(oracle) - constant
    torch.testing.assert_close(marginal_entropy(x, window=m, epsilon=0), expected)


def test_regular_grid_has_a_closed_form():
    n = 512
    u = ((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]
    expected = torch.tensor([math.log((n + 1) / n)], dtype=torch.float64)
    torch.testing.assert_close(marginal_entropy(u, epsilon=0), expected)


@pytest.mark.parametrize(
    "law, mapping",
    [
        (scipy.stats.uniform(), None),
        (scipy.stats.beta(2, 5), None),
        (scipy.stats.beta(3, 3), None),
        (scipy.stats.norm(), "normal"),
        (scipy.stats.logistic(), "logistic"),
    ],
)
def test_entropy_converges_to_that_of_the_law(law, mapping):
    n = 20_000
    x = torch.from_numpy(law.rvs((n, 4), random_state=0))
    estimate = marginal_entropy(x) if mapping is None else mapped_entropy(x, mapping)
    m = round(math.sqrt(n))
    bias = math.log(m) - scipy.special.digamma(m)
    expected = float(law.entropy()) if mapping is None else 0.0  # its own CDF makes it uniform
    torch.testing.assert_close(
        estimate + bias, torch.full((4,), expected).double(), rtol=0, atol=0.03
    )


@given(SHAPES)
@few
def test_entropy_ignores_order_and_shift_and_adds_log_scale(shape):
    n, d, seed = shape
    x = normal(n, d, seed)
    h = marginal_entropy(x, epsilon=0)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(marginal_entropy(x[order], epsilon=0), h, rtol=0, atol=1e-14)
    torch.testing.assert_close(marginal_entropy(x + 3, epsilon=0), h, rtol=0, atol=1e-6)
    torch.testing.assert_close(marginal_entropy(-2 * x, epsilon=0), h + math.log(2))


@given(SHAPES, st.sampled_from(sorted(MAPPINGS)))
@few
def test_mapped_entropy_is_the_entropy_of_the_map(shape, mapping):
    n, d, seed = shape
    z = normal(n, d, seed)
    torch.testing.assert_close(
        mapped_entropy(z, mapping), marginal_entropy(MAPPINGS[mapping].cdf(z))
    )


@given(SHAPES, st.sampled_from([None, 7.0]))
@few
def test_covariance_is_the_plain_one(shape, divisor):
    n, d, seed = shape
    u = normal(n, d, seed).sigmoid()
    value = offdiagonal_covariance(u, divisor=divisor)
    expected = plain_covariance(u, divisor or n - 1)
    scale = float(plain_covariance(u, divisor or n - 1) + u.var(dim=0).square().sum())
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12 * scale)


@pytest.mark.parametrize("n, d", [(2, 1), (2, 3), (9, 4), (4, 9)])
def test_gradients(n, d):
    z = normal(n, d).requires_grad_()
    assert gradcheck(lambda z: marginal_entropy(z), z)
    assert gradcheck(lambda z: marginal_entropy(z, window=1, epsilon=0.1), z)
    assert gradcheck(lambda z: mapped_entropy(z, "normal"), z)
    assert gradcheck(lambda z: mapped_entropy(z, "logistic"), z)
    assert gradcheck(lambda z: offdiagonal_covariance(z, divisor=3), z)
    assert gradcheck(normal_cdf, z)
    assert gradcheck(logistic, z)


FUNCTIONS = {
    "entropy": lambda z: marginal_entropy(z, window=2),
    "normal": lambda z: mapped_entropy(z, "normal"),
    "logistic": lambda z: mapped_entropy(z, "logistic"),
    "covariance": lambda z: offdiagonal_covariance(z, divisor=3),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


@each_function
@pytest.mark.parametrize("n, d", [(9, 4), (4, 9)])
def test_second_derivatives(name, n, d):
    z = normal(n, d).requires_grad_()
    assert gradgradcheck(FUNCTIONS[name], z)


@each_function
def test_gradient_of_a_gradient_that_comes_from_a_constant(name):
    """The incoming gradient of a loss needs none itself, which once hid that the graph was lost."""
    z = normal(9, 4).requires_grad_()
    (g,) = torch.autograd.grad(FUNCTIONS[name](z).sum(), z, create_graph=True)
    (without_graph,) = torch.autograd.grad(FUNCTIONS[name](z).sum(), z)
    torch.testing.assert_close(g, without_graph)
    direction = normal(9, 4, seed=1)
    (product,) = torch.autograd.grad((g * direction).sum(), z)
    step = 1e-6
    ahead, behind = (
        gradient(lambda z: FUNCTIONS[name](z).sum(), z.detach() + sign * step * direction)
        for sign in (1, -1)
    )
    torch.testing.assert_close(product, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_constant_columns_have_second_derivatives():
    for n, d in ((9, 4), (4, 9)):
        z = torch.ones(n, d, dtype=torch.float64).requires_grad_()
        (g,) = torch.autograd.grad(offdiagonal_covariance(z), z, create_graph=True)
        (second,) = torch.autograd.grad(g.square().sum(), z)
        assert not second.any()


@each_function
def test_transforms_of_torch_func(name):
    function, z = FUNCTIONS[name], normal(9, 4)
    jacobian = torch.autograd.functional.jacobian(function, z)
    torch.testing.assert_close(torch.func.jacrev(function)(z), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(function)(z), jacobian)
    both = torch.stack([z, 2 * z])
    expected = torch.stack([function(z), function(2 * z)])
    torch.testing.assert_close(torch.vmap(function)(both), expected)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(z, z))).tangent
        expected = (jacobian * z).sum(dim=(-2, -1))
        torch.testing.assert_close(tangent, expected)


def test_columns_weigh_in_as_they_are_asked_to():
    z, weights = normal(20, 5), torch.arange(5.0, dtype=torch.float64)
    expected = weights * gradient(lambda z: mapped_entropy(z, "normal").sum(), z)
    by_weight = gradient(lambda z: weights @ mapped_entropy(z, "normal"), z)
    torch.testing.assert_close(by_weight, expected)


def test_blocks_of_columns_do_not_change_anything():
    z = normal(2**10, 300)  # more than one block of 2^18 numbers
    weight = torch.linspace(0, 1, 300, dtype=torch.float64)
    whole = gradient(lambda z: weight @ mapped_entropy(z, "normal"), z)
    alone = gradient(lambda z: weight[290:] @ mapped_entropy(z, "normal"), z[:, 290:])
    torch.testing.assert_close(whole[:, 290:], alone)


def test_gradient_is_bounded_where_values_are_tied():
    n, m, epsilon = 64, 8, 2**-23
    tied = torch.zeros(n, 1, dtype=torch.float64)
    tied[-1] = 1e-9
    bound = (n + 1) / (m * (n - m) * epsilon)
    largest = gradient(lambda u: marginal_entropy(u).sum(), tied).abs().max()
    assert bound / 2 < largest <= bound * (1 + 1e-9)


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0, 8.0])
def test_float32_keeps_the_precision_of_both_tails(mapping, scale):
    z = normal(512, 32, scale=scale).float()
    exact = mapped_entropy(z.double(), mapping)
    torch.testing.assert_close(mapped_entropy(z, mapping).double(), exact, rtol=1e-6, atol=1e-6)
    entropy_gradient = gradient(lambda z: mapped_entropy(z, mapping).mean(), z.double())
    error = gradient(lambda z: mapped_entropy(z, mapping).mean(), z) - entropy_gradient
    assert error.abs().max() < 1e-3 * entropy_gradient.abs().max()


def test_packed_sort_orders_every_kind_of_number():
    x = torch.cat([normal(40, 3), 1e-42 * normal(40, 3), 1e38 * normal(40, 3)]).float().T
    x[:, ::7] = 0.0
    x[:, 1::7] = -0.0
    x[:, 2] = math.inf
    x[:, 3] = -math.inf
    values, order = _sort(x.contiguous())
    assert torch.equal(values, x.sort(dim=1).values)
    assert torch.equal(x.gather(1, order), values)


def test_normal_cdf_keeps_its_lower_tail_in_float32():
    z = torch.linspace(-9, 5, 500)
    exact = torch.from_numpy(scipy.special.ndtr(z.double().numpy()))
    torch.testing.assert_close(normal_cdf(z).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("n, d", [(64, 32), (64, 65), (64, 100), (64, 512), (128, 2048)])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_float32_survives_the_subtraction_of_the_diagonal(n, d, spread):
    scales = torch.exp(spread * normal(1, d, seed=1))  # columns of unlike variance
    u = (normal(n, d) * scales).float()
    value = offdiagonal_covariance(u).double()
    tolerance = 1e-4 if spread else 1e-6
    torch.testing.assert_close(value, offdiagonal_covariance(u.double()), rtol=tolerance, atol=0)
    exact = gradient(offdiagonal_covariance, u.double())
    error = gradient(offdiagonal_covariance, u) - exact
    assert error.abs().max() < 1e-5 * exact.abs().max()


def test_half_precision_is_left():
    u = normal(32, 8).sigmoid().bfloat16()
    for function in (marginal_entropy, offdiagonal_covariance):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = function(u)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, function(u.double()).float())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: marginal_entropy(torch.rand(4)), r"float32 of shape \(4,\)"),
        (
            lambda: marginal_entropy(torch.rand(1, 4)),
            r"N >= 2, found .* shape \(1, 4\)",
        ),
        (lambda: marginal_entropy(torch.ones(3, 4, dtype=torch.int64)), "int64"),
        (lambda: marginal_entropy([[0.1], [0.2]]), "found a value of type list"),
        (lambda: offdiagonal_covariance(None), "found a value of type NoneType"),
        (lambda: marginal_entropy(torch.rand(4, 4), window=2.5), "whole number .* found 2.5"),
        (lambda: marginal_entropy(torch.rand(4, 4), window=4), "1 to N - 1 = 3, found 4"),
        (lambda: marginal_entropy(torch.rand(4, 4), window=0), "found 0"),
        (lambda: marginal_entropy(torch.rand(4, 4), epsilon=-1), "negative"),
        (
            lambda: mapped_entropy(torch.rand(4, 4), "tanh"),
            "'tanh' does not exist, expected one of norm",
        ),
        (lambda: offdiagonal_covariance(torch.rand(2, 3, 4)), r"\(2, 3, 4\)"),
        (lambda: offdiagonal_covariance(torch.rand(4, 0)), "D >= 1"),
        (lambda: offdiagonal_covariance(torch.rand(4, 4), divisor=0), "positive, found 0"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
