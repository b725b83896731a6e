"""What all criteria have in common: shape, precision, errors, compilation, names."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
import typing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import e2mc
from e2mc.criteria import CRITERIA, Criterion, CriterionOutput, create_criterion

every = pytest.mark.parametrize("name", CRITERIA)
# these stop a gradient on purpose: tests/criteria/test_visreg.py, test_random_direction.py
STOPPED = ("visreg", "random-direction")
differentiated = pytest.mark.parametrize("name", [name for name in CRITERIA if name not in STOPPED])
# the control measures E2MC's gradient, where the compiler leaves its graph, and its value is that
# gradient's length: tests/criteria/test_random_direction.py
but_the_control = pytest.mark.parametrize(
    "name", [name for name in CRITERIA if name != "random-direction"]
)


def make_views(n: int, d: int, count: int = 2, seed: int = 0, **kwargs) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, d, generator=generator, dtype=torch.float64).to(**kwargs).requires_grad_()
        for _ in range(count)
    ]


def run(criterion: Criterion, views: list[torch.Tensor]) -> tuple[CriterionOutput, list]:
    out = criterion(*views)
    return out, torch.autograd.grad(out.loss, views)


def test_import_needs_torch_alone():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'scipy', 'pydantic']));"
        "from e2mc import E2MC, VCReg, MMCR, AUH, CorInfoMax, VICRegCovariance, ER, SIGReg;"
        "from e2mc import VISReg, RDMReg, KoLeo, CodingRate, RandomDirection;"
        "from e2mc import marginal_entropy, offdiagonal_covariance; import torch;"
        "z = torch.randn(8, 4, requires_grad=True); E2MC()(z, z).loss.backward()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_leaves_the_compiler_alone():
    code = (
        "import sys, e2mc.steps.evaluation, e2mc.steps.training, e2mc.cli.estimate;"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    for criterion in CRITERIA.values():
        assert getattr(e2mc, criterion.__name__) is criterion
    assert set(e2mc.__all__) <= set(dir(e2mc))
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = e2mc.nothing
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = e2mc.Nothing


def test_public_names_come_from_the_registry(monkeypatch):
    class Mine(Criterion):
        """A criterion in the registry alone."""

    monkeypatch.setitem(CRITERIA, "mine", Mine)
    assert e2mc.Mine is Mine
    assert "Mine" in e2mc.__all__ and "Mine" in dir(e2mc)


def test_star_imports_every_criterion():
    for module in ("e2mc", "e2mc.criteria"):
        names: dict[str, object] = {}
        exec(f"from {module} import *", names)
        assert {kind.__name__ for kind in CRITERIA.values()} <= names.keys()


def test_import_of_the_package_and_its_small_modules_is_without_torch():
    code = (
        "import sys, inspect, e2mc; from e2mc import state, progress; inspect.getdoc(e2mc);"
        "assert not hasattr(e2mc, 'nothing') and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_registry():
    assert create_criterion("e2mc", window=3).window == 3
    with pytest.raises(ValueError, match="criterion 'emc' does not exist, expected .* e2mc, vcreg"):
        create_criterion("emc")


@differentiated
def test_gradients(name):
    views = make_views(7, 3)
    # In eval mode, so that a running covariance stays as it is.
    assert gradcheck(lambda *views: create_criterion(name).eval()(*views).loss, views)


@differentiated
@pytest.mark.parametrize("n, d", [(7, 3), (4, 9)])
def test_second_derivatives(name, n, d):
    criterion = create_criterion(name).eval()
    assert gradgradcheck(lambda *views: criterion(*views).loss, make_views(n, d))


@every
def test_transforms_of_torch_func(name):
    criterion, views = create_criterion(name).eval(), make_views(7, 3)

    def loss(z1, z2):
        return criterion(z1, z2).loss

    gradients = torch.autograd.grad(loss(*views), views)
    z1, z2 = (z.detach() for z in views)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(loss, argnums=(0, 1))(z1, z2), gradients)
    hessian = torch.autograd.functional.hessian(lambda z: loss(z, z2), z1)
    torch.testing.assert_close(torch.func.hessian(loss)(z1, z2), hessian)
    batches = [torch.stack([z, 2 * z]) for z in (z1, z2)]
    expected = torch.stack([loss(z1, z2), loss(2 * z1, 2 * z2)])
    torch.testing.assert_close(torch.vmap(loss)(*batches), expected)
    of_each = torch.vmap(torch.func.grad(loss))(*batches)
    torch.testing.assert_close(of_each[0], gradients[0])


@every
def test_transforms_move_a_state_as_a_call_does(name):
    z1, z2 = (z.detach() for z in make_views(7, 3))
    called, transformed = create_criterion(name), create_criterion(name)
    called(z1, z2)
    torch.func.grad(lambda z: transformed(z, z2).loss)(z1)
    torch.testing.assert_close(transformed.state_dict(), called.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(transformed(z1, z2), called(z1, z2), rtol=0, atol=0)


@but_the_control
def test_loss_is_made_of_terms_that_carry_no_gradient(name):
    criterion = CRITERIA[name]
    weights = [key for key in criterion.__init__.__annotations__ if key.endswith("weight")]
    views = make_views(9, 4)
    unit = criterion(**dict.fromkeys(weights, 1.0))(*views)
    assert not any(term.requires_grad for term in unit.terms.values())
    tripled = criterion(**dict.fromkeys(weights, 3.0))(*views)
    assert math.isclose(tripled.loss.item(), 3 * unit.loss.item())
    assert {k: v.item() for k, v in tripled.terms.items()} == pytest.approx(
        {k: v.item() for k, v in unit.terms.items()}
    )


@every
@given(st.integers(2, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_any_shape_is_finite_and_ignores_the_order_of_rows(name, n, d, count, seed):
    views = make_views(n, d, count, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    out, gradients = run(create_criterion(name), views)
    assert out.loss.shape == () and out.loss.isfinite()
    assert all(g.isfinite().all() for g in gradients)
    shuffled, _ = run(create_criterion(name), [z[order] for z in views])
    torch.testing.assert_close(shuffled.loss, out.loss, rtol=1e-7, atol=1e-9)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_left(name, dtype):
    views = make_views(32, 8, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, gradients = run(create_criterion(name), views)
    exact = create_criterion(name)(*[z.double() for z in views])
    assert out.loss.dtype == torch.float32
    assert all(term.dtype == torch.float32 for term in out.terms.values())
    assert all(g.dtype == dtype for g in gradients)
    torch.testing.assert_close(out.loss.double(), exact.loss, rtol=1e-4, atol=1e-6)


@every
@pytest.mark.parametrize(
    "dtypes, widest",
    [
        ((torch.float32, torch.float64), torch.float64),
        ((torch.float64, torch.bfloat16), torch.float64),
        ((torch.bfloat16, torch.float32), torch.float32),
        ((torch.float16, torch.bfloat16), torch.float32),
    ],
)
def test_of_several_precisions_the_widest_is_taken(name, dtypes, widest):
    views = [z.detach().to(dtype).requires_grad_() for z, dtype in zip(make_views(9, 4), dtypes)]
    out, gradients = run(create_criterion(name), views)
    expected = create_criterion(name)(*[z.to(widest) for z in views])
    assert out.loss.dtype == widest
    assert [g.dtype for g in gradients] == list(dtypes)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


@every
@pytest.mark.parametrize(
    "embedding",
    [
        torch.zeros(8, 5),
        torch.ones(8, 5),
        torch.eye(8)[:, :5],
        torch.randn(1, 5).expand(8, 5),
        1e4 * torch.randn(8, 5, generator=torch.Generator().manual_seed(0)),
        torch.relu(torch.randn(8, 5, generator=torch.Generator().manual_seed(0))),
        torch.tensor([[1.0], [2.0]]),
    ],
    ids=["zero", "constant", "one-hot", "collapsed", "saturated", "rectified", "smallest"],
)
def test_degenerate_embeddings_stay_finite(name, embedding):
    views = [embedding.clone().requires_grad_() for _ in range(2)]
    out, gradients = run(create_criterion(name), views)
    assert out.loss.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@every
def test_default_device_is_not_where_things_are_computed(name):
    views = [z.detach().float() for z in make_views(12, 5)]
    expected = create_criterion(name)(*views)
    criterion = create_criterion(name)
    with torch.device("meta"):
        out = criterion(*views)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


@every
def test_nan_raises_with_count_and_first_position(name):
    z = torch.randn(6, 4)
    bad = z.clone()
    bad[2, 3] = math.nan
    bad[5, 0] = -math.inf
    message = (
        rf"{CRITERIA[name].__name__}: 2 embedding values are NaN or infinite, the first in view 1 "
        r"of shape \(6, 4\) at row 2, column 3;"
    )
    with pytest.raises(ValueError, match=message):
        create_criterion(name)(z, bad)


def test_nan_passes_where_the_check_is_off():
    z = torch.full((6, 4), math.nan)
    assert create_criterion("e2mc", check_finite=False)(z).loss.isnan()


@every
def test_wrong_shapes_raise(name):
    criterion, z = create_criterion(name), torch.randn(6, 4)
    for views, message in [
        ((), "found no view"),
        ((z, z[:, :3]), r"found \(6, 4\), \(6, 3\)"),
        ((z[0],), r"found \(4,\)"),
        ((z[:, :0],), r"found \(6, 0\)"),
        ((z.long(),), "found torch.int64"),
        (([z, z],), r"found a value of type list: .* criterion\(\*views\)"),
        (((z, z),), "found a value of type tuple"),
        ((z, None), "found a value of type NoneType"),
        ((z.numpy(), z), "found a value of type ndarray"),
        ((z, z.to("meta")), "on one device, found cpu, meta"),
        ((z.to(torch.complex64),), "found torch.complex64"),
        ((z[:1],), "at least 2 rows, found 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            criterion(*views)


def parameters(kind: type) -> dict[str, object]:
    """Type of each parameter that a study can set."""
    hints = typing.get_type_hints(kind.__init__)
    return {name: hints[name] for name in inspect.signature(kind).parameters if name != "group"}


def wrong_values(hint: object) -> list[object]:
    """Values that no parameter of this type takes."""
    nothing: list[object] = ["strong", -3.0, math.nan, math.inf, True]
    return {
        float: nothing,
        int: [*nothing, 2.5, 0],
        int | None: [*nothing, 2.5, 0],
        bool: [],  # for those who read the types
    }.get(hint, ["nothing", 1, None])


@every
def test_parameters_have_types_that_a_study_can_be_checked_with(name):
    for hint in parameters(CRITERIA[name]).values():
        assert hint in (float, int, int | None, bool) or typing.get_origin(hint) is typing.Literal


@every
def test_wrong_parameters_raise(name):
    for parameter, hint in parameters(CRITERIA[name]).items():
        for value in wrong_values(hint):
            with pytest.raises(ValueError, match=rf"^{parameter} .* expected|^{parameter} must be"):
                create_criterion(name, **{parameter: value})


@pytest.mark.parametrize(
    "name, params, message",
    [
        ("e2mc", {"mapping": "tanh"}, "mapping 'tanh' does not exist, expected one of normal, log"),
        ("e2mc", {"batch_size": 1}, "batch_size must be a whole number of at least 2, found 1"),
        ("e2mc", {"window": 2.5}, "window must be a whole number of at least 1, found 2.5"),
        ("vicreg-covariance", {"batch_size": 1}, "at least 2, found 1"),
        ("vcreg", {"space": "sphere"}, "'sphere'"),
        ("auh", {"t": 0}, "t must be a finite number above 0, found 0"),
        ("corinfomax", {"decay": 1}, "number of at least 0 and below 1, found 1"),
        ("corinfomax", {"epsilon": 0}, "above 0, found 0"),
        ("sigreg", {"points": 1}, "at least 2, found 1"),
        ("visreg", {"directions": 0}, "directions must be a whole number of at least 1, found 0"),
        ("visreg", {"epsilon": 0}, "epsilon must be a finite number above 0, found 0"),
        ("rdmreg", {"law": "cauchy"}, "law 'cauchy' does not exist, expected one of laplace, norm"),
        ("rdmreg", {"density": 1}, "density must be a finite number above 0 and below 1, found 1"),
        ("koleo", {"epsilon": 0}, "epsilon must be a finite number above 0, found 0"),
        ("coding-rate", {"distortion": 0}, "distortion must be a finite number above 0, found 0"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said(name, params, message):
    with pytest.raises(ValueError, match=message):
        create_criterion(name, **params)


@but_the_control
@pytest.mark.parametrize("n, d", [(12, 4), (4, 12)])
def test_compiles_without_graph_breaks(name, n, d):
    """The graph up to the kernels; compiling those takes a C++ compiler and seconds."""
    torch.compiler.reset()
    views = make_views(n, d)
    compiled = torch.compile(create_criterion(name), fullgraph=True, backend="aot_eager")
    expected, gradients = run(create_criterion(name), views)
    out, compiled_gradients = run(compiled, views)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(compiled_gradients, gradients)


@pytest.mark.slow
@but_the_control
def test_compiled_kernels_give_the_same(name):
    torch.compiler.reset()
    views = make_views(12, 4)
    expected, gradients = run(create_criterion(name), views)
    out, compiled_gradients = run(torch.compile(create_criterion(name), fullgraph=True), views)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(compiled_gradients, gradients)


class LargestTensor(TorchDispatchMode):
    """Number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("name", ["e2mc", "vicreg-covariance", "vcreg"])
def test_no_matrix_of_dimensions_where_they_outnumber_the_batch(name):
    n, d = 16, 512
    views = [torch.randn(n, d, requires_grad=True) for _ in range(2)]
    with LargestTensor() as largest:
        create_criterion(name)(*views).loss.backward()
    assert n * d <= largest.elements < d * d / 4
