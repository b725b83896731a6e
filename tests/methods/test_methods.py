"""What holds for every method: registry, precision, groups, state, and learning."""

from __future__ import annotations

import copy
import inspect
import math
import typing

import pytest
import torch

from e2mc.methods import METHODS, create_method

PARAMS = {
    "vicreg": {"expander": (16, 16)},
    "swav": {"hidden_dim": 16, "dim": 8, "prototypes": 12, "queue_length": 32},
    "simsiam": {"dim": 16, "predictor_hidden_dim": 8},
    "simclr": {"hidden_dim": 16, "dim": 8},
    "byol": {"hidden_dim": 16, "dim": 8},
    "dino": {"hidden_dim": 16, "dim": 8, "prototypes": 12},
    "deepcluster": {"hidden_dim": 16, "dim": 8, "prototypes": (5, 4)},
    "anchor": {},
}


@pytest.fixture
def views():
    torch.manual_seed(1)
    images = torch.randn(16, 1, 8, 8)
    return [images + 0.1 * torch.randn_like(images) for _ in range(2)]


@pytest.fixture(params=[(name, objective) for name in METHODS for objective in ("own", "er")])
def method(request, backbone, views):
    """In an epoch over the 16 images of `views`, all in one batch."""
    name, objective = request.param
    torch.manual_seed(2)
    method = create_method(name, backbone, **PARAMS[name], objective=objective)
    method.begin_run(16)
    method.begin_epoch(torch.Generator().manual_seed(0), lambda: iter([(torch.arange(16), views)]))
    method.begin_step(torch.arange(16))
    return method


def test_unknown_name_is_refused(backbone):
    with pytest.raises(ValueError, match="'moco'.*vicreg"):
        create_method("moco", backbone)


def parameters(name: str) -> dict[str, object]:
    """Type of each parameter that a study can set."""
    hints = typing.get_type_hints(METHODS[name].__init__)
    chosen = inspect.signature(METHODS[name]).parameters
    return {key: hints[key] for key in chosen if key not in ("backbone", "group")}


WRONG = {
    float: ["strong", -3.0, math.nan, math.inf, True],
    int: ["strong", -3, 2.5, math.nan, True],
    int | None: ["strong", -3, 2.5, math.nan, True, 1],
    tuple[int, ...]: ["wide", 8, [8, "8"], [], [0], [2.5]],
}


@pytest.mark.parametrize("name", METHODS)
def test_parameters_have_types_that_a_study_can_be_checked_with(name):
    for hint in parameters(name).values():
        assert hint in WRONG or typing.get_origin(hint) is typing.Literal


@pytest.mark.parametrize("name", METHODS)
def test_wrong_parameters_are_refused(name, backbone):
    for parameter, hint in parameters(name).items():
        for value in WRONG.get(hint, ["err", 1, None]):
            with pytest.raises(ValueError, match=f"{parameter} (must be|.* expected)"):
                create_method(name, backbone, **PARAMS[name] | {parameter: value})


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("byol", {"ema": 1.5}, "ema must be .* of at least 0 and at most 1, found 1.5"),
        ("dino", {"ema_last": 1.5}, "ema_last must be .* at most 1, found 1.5"),
        ("dino", {"centre_momentum": 2.0}, "centre_momentum must be .* at most 1, found 2.0"),
        ("simclr", {"temperature": 0.0}, "temperature must be a finite number above 0, found 0.0"),
        ("vicreg", {"expander": "wide"}, "expander must be a list of .* found 'wide'"),
        ("vicreg", {"objective": "err"}, "objective 'err' does not exist"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said(name, params, message, backbone):
    with pytest.raises(ValueError, match=message):
        create_method(name, backbone, **params)


def test_er_is_the_bound(method, views):
    """Error less entropy, whatever they are made of."""
    out = method(views)
    if method.objective == "er":
        terms = out.terms["er_reconstruction"] - out.terms["er_entropy"]
        torch.testing.assert_close(out.loss.detach(), terms)
    else:
        assert not any(name.startswith("er_") for name in out.terms)


def test_embed_gives_the_embeddings_of_forward(method, views):
    method.eval()
    for z, expected in zip(method.embed(views), method(views).embeddings, strict=True):
        torch.testing.assert_close(z, expected)


def test_default_device_is_not_where_things_are_computed(method, views):
    other = copy.deepcopy(method)
    outputs = []
    for one, device in ((method, "cpu"), (other, "meta")):
        generator = torch.Generator().manual_seed(1)
        indices = torch.arange(16)
        with torch.device(device):
            one.begin_epoch(generator, lambda indices=indices: iter([(indices, views)]))
            one.begin_step(indices)
            outputs.append(one(views))
            one.end_step(0.5)
    torch.testing.assert_close(outputs[1].loss, outputs[0].loss, rtol=0, atol=0)


def test_evaluation_changes_nothing(method, views):
    method.eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method(views)
    method.embed(views)
    after = method.state_dict()
    # SwAV normalises its prototypes before every forward pass
    assert all(torch.equal(after[k], v) for k, v in before.items() if k != "prototypes.weight")


def test_state_dict_is_all_that_a_resumed_run_needs(method, backbone, views):
    """One more step of a copy that was loaded from the state, and nothing else."""
    name = next(name for name, kind in METHODS.items() if type(method) is kind)
    other = create_method(name, type(backbone)(), **PARAMS[name], objective=method.objective)
    method(views)
    method.end_step(0.0)
    other.begin_run(16)
    other.load_state_dict(method.state_dict())
    for one in (method, other):
        one.begin_step(torch.arange(16))
    first, second = method(views), other(views)
    assert torch.equal(first.loss, second.loss)
    for one in (method, other):
        one.end_step(0.5)
    assert all(
        torch.equal(value, other.state_dict()[key]) for key, value in method.state_dict().items()
    )


def test_output_has_the_agreed_form(method, views):
    out = method(views)
    assert out.loss.shape == () and out.loss.requires_grad
    assert len(out.embeddings) == method.global_views == 2
    for z in out.embeddings:
        assert z.shape[0] == 16 and z.ndim == 2 and z.requires_grad
    assert out.terms and not any(term.requires_grad for term in out.terms.values())


def test_loss_and_embeddings_are_float32_under_autocast(method, views):
    with torch.autocast("cpu", torch.bfloat16):
        out = method(views)
    assert out.loss.dtype == torch.float32
    assert all(z.dtype == torch.float32 for z in out.embeddings)
    assert all(term.dtype == torch.float32 for term in out.terms.values())
    out.loss.backward()
    torch.testing.assert_close(out.loss, method(views).loss, rtol=0.1, atol=0.05)


def test_every_grouped_parameter_gets_a_gradient(method, views):
    out = method(views)
    out.loss.backward()
    params = [p for group in method.parameter_groups() for p in group["params"]]
    assert all(p.requires_grad and p.grad is not None for p in params)
    assert len(params) == sum(p.requires_grad for p in method.parameters())


def test_frozen_parameters_are_in_no_group(method):
    method.backbone.requires_grad_(False)
    params = {id(p) for group in method.parameter_groups() for p in group["params"]}
    assert not params & {id(p) for p in method.backbone.parameters()}


def test_loss_falls_in_training(method, views):
    """Against targets that rest: no `end_step`, and DINO's centre has come to the mean."""
    for _ in range(40):
        method(views)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = method(views).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])
