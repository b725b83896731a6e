"""Entropy and reconstruction against the corrected official values, mpmath and the definition."""

from __future__ import annotations

import math
from pathlib import Path

import mpmath
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize

from e2mc.sphere import entropy, log_normaliser, reconstruction

GOLDENS = Path(__file__).parent / "goldens"
SPHERES = sorted(path.stem for path in GOLDENS.glob("er_sphere_*.npz"))
DISCRETE = sorted(path.stem for path in GOLDENS.glob("er_discrete_*.npz"))
OFFICIAL = {"plug-in": "expectation", "joe": "average"}


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("name", SPHERES)
def test_values_on_the_sphere_are_the_corrected_official_ones(golden, same_value, name):
    g = golden(name)
    z1, z2, kappa = g["z1"].double(), g["z2"].double(), float(g["kappa"])
    for estimator, official in OFFICIAL.items():
        value = entropy(z1, kappa, estimator)
        same_value(value, g[f"f64_entropy_{official}_corrected"])
    same_value(reconstruction(z1, z2, kappa), g["f64_reconstruction_corrected"])


@pytest.mark.parametrize("name", [name for name in SPHERES if "_d512_" not in name])
def test_gradients_on_the_sphere_are_the_official_ones(golden, same_gradient, name):
    g = golden(name)
    if "f64_entropy_average_grad" not in g:
        pytest.skip("gradients are stored up to d = 64")
    kappa = float(g["kappa"])
    for estimator, official in OFFICIAL.items():
        z = g["z1"].double().requires_grad_()
        entropy(z, kappa, estimator).backward()
        same_gradient(z.grad, g[f"f64_entropy_{official}_grad"])
    z1, z2 = (g[key].double().requires_grad_() for key in ("z1", "z2"))
    reconstruction(z1, z2, kappa).backward()
    same_gradient(z1.grad, g["f64_reconstruction_grad_z1"])
    same_gradient(z2.grad, g["f64_reconstruction_grad_z2"])


@pytest.mark.parametrize("name", DISCRETE)
def test_assignments_are_the_official_ones(golden, same_value, same_gradient, name):
    g = golden(name)
    for estimator, official in OFFICIAL.items():
        p = g["p1"].double().requires_grad_()
        value = entropy(p, estimator=estimator, support="discrete")
        value.backward()
        same_value(value.detach(), g[f"f64_entropy_{official}"])
        same_gradient(p.grad, g[f"f64_entropy_{official}_grad"])
    p1, p2 = (g[key].double().requires_grad_() for key in ("p1", "p2"))
    value = reconstruction(p1, p2, support="discrete")
    value.backward()
    same_value(value.detach(), g["f64_reconstruction"])
    same_gradient(p1.grad, g["f64_reconstruction_grad_p1"])
    same_gradient(p2.grad, g["f64_reconstruction_grad_p2"])


@pytest.mark.parametrize("d", [1, 2, 3, 16, 33, 63, 64, 65, 128, 513, 2048, 8192, 65536])
def test_log_normaliser_and_its_gradient_are_mpmaths(d):
    with mpmath.workdps(50):
        order = mpmath.mpf(d) / 2 - 1
        for exponent in range(-3, 5):
            x = mpmath.mpf(10.0**exponent)
            bessel = mpmath.besseli(order, x)
            expected = (
                d * mpmath.log(2 * mpmath.pi) / 2 + mpmath.log(bessel) - order * mpmath.log(x)
            )
            ratio = mpmath.besseli(order + 1, x) / bessel
            kappa = torch.tensor(10.0**exponent, dtype=torch.float64, requires_grad=True)
            value = log_normaliser(kappa, d)
            value.backward()
            assert value.item() == pytest.approx(float(expected), rel=1e-14, abs=1e-13)
            same = pytest.approx(value.item(), rel=1e-14, abs=1e-13)
            assert log_normaliser(10.0**exponent, d) == same
            assert kappa.grad.item() == pytest.approx(float(ratio), rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 100])
def test_log_normaliser_without_concentration_is_the_area(d):
    area = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
    assert log_normaliser(0.0, d) == pytest.approx(area, rel=1e-14, abs=1e-14)


def test_no_sphere_without_dimensions():
    with pytest.raises(ValueError, match="at least 1, found 0"):
        log_normaliser(1.0, 0)


@pytest.mark.parametrize("estimator", OFFICIAL)
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_gradient_by_kappa_and_embeddings(estimator, leave_one_out):
    z1, z2 = rows(6, 4), rows(6, 4, seed=1)
    kappa = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def bound(z1, z2, kappa):
        h = entropy(z1, kappa, estimator, leave_one_out=leave_one_out)
        return h - reconstruction(z1, z2, kappa)

    assert gradcheck(bound, (z1.requires_grad_(), z2.requires_grad_(), kappa))


@pytest.mark.parametrize("estimator", OFFICIAL)
def test_leave_one_out_is_the_definition(estimator):
    z, kappa = rows(7, 5), 4.0
    constant = -log_normaliser(kappa, 5)
    density = torch.stack(
        [
            torch.stack([torch.exp(constant + kappa * z[j] @ z[i]) for i in range(7) if i != j])
            for j in range(7)
        ]
    ).mean(dim=1)
    surprisal = -density.log()
    expected = surprisal.mean() if estimator == "joe" else density @ surprisal / density.sum()
    torch.testing.assert_close(entropy(z, kappa, estimator, leave_one_out=True), expected)


def test_uniform_sample_nears_the_entropy_of_the_sphere():
    """A flat kernel on many points; leaving a point out removes its own bias."""
    z = rows(4000, 3)
    area = math.log(4 * math.pi)
    assert entropy(z, 2.0, "joe", leave_one_out=True).item() == pytest.approx(area, abs=5e-3)
    assert entropy(z, 2.0, "joe").item() < entropy(z, 2.0, "joe", leave_one_out=True).item()
    spread = entropy(rows(500, 16), 10.0)
    assert entropy(normalize(rows(500, 16) + 2 * rows(1, 16)), 10.0) < spread


def test_assignments_have_entropy_log_k_at_most():
    even = torch.full((6, 4), 0.25)
    assert entropy(even, support="discrete").item() == pytest.approx(math.log(4), abs=1e-5)
    assert entropy(torch.eye(4), support="discrete").item() == pytest.approx(math.log(4), abs=1e-5)
    one = torch.eye(4)[:1].expand(6, 4)
    assert entropy(one, support="discrete").item() == pytest.approx(0, abs=1e-5)


def test_wrong_arguments_raise():
    z = rows(4, 3)
    for arguments, message in [
        ((z, 1.0, "plug-in", "torus"), "'torus'"),
        ((z[0],), "real .* tensor"),
        (([z, z],), "found a value of type list"),
        ((z, -1.0), "positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            entropy(*arguments)
    with pytest.raises(ValueError, match="or 2 to leave one out, found 0"):
        entropy(z[:1], leave_one_out=True)
    with pytest.raises(ValueError, match="not for discrete"):
        entropy(z.abs(), support="discrete", leave_one_out=True)
    with pytest.raises(ValueError, match="one shape"):
        reconstruction(z, z[:2])
