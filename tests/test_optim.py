"""Optimizers and schedules against the official code's values."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn

from e2mc.optim import (
    LARC,
    LARCSGD,
    LARS,
    OptimizerSpec,
    ScheduleSpec,
    create_optimizer,
    learning_rate_factor,
)

OFFICIAL = [
    (LARS, "vicreg_lars_wd1e-2"),
    (LARS, "vicreg_lars_wd1e-6"),
    (LARCSGD, "apex_larc_noclip_sgd_wd1e-2"),
    (LARCSGD, "apex_larc_noclip_sgd_wd1e-6"),
]


@pytest.mark.parametrize(("optimizer_class", "name"), OFFICIAL)
@pytest.mark.parametrize(
    ("dtype", "prefix", "tolerance"), [(torch.float64, "f64", 1e-12), (torch.float32, "f32", 1e-6)]
)
def test_three_steps_are_the_official_ones(golden, optimizer_class, name, dtype, prefix, tolerance):
    g = golden(name)
    params = {
        key[3:]: nn.Parameter(value.to(dtype)) for key, value in g.items() if key.startswith("p0_")
    }
    settings = {"momentum": float(g["momentum"]), "weight_decay": float(g["weight_decay"])}
    optimizer = optimizer_class(params.values(), lr=0.0, trust=float(g["eta_or_trust"]), **settings)
    for step, lr in enumerate(g["lrs"].tolist(), start=1):
        for key, p in params.items():
            gradient = g.get(f"g{step}_{key}")
            p.grad = None if gradient is None else gradient.to(dtype)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        for key, p in params.items():
            expected = g[f"{prefix}_p{step}_{key}"]
            torch.testing.assert_close(p.detach(), expected, rtol=tolerance, atol=tolerance)
    for key, p in params.items():
        if f"{prefix}_buf_{key}" in g:
            expected = g[f"{prefix}_buf_{key}"]
            torch.testing.assert_close(
                optimizer.state[p]["mu"], expected, rtol=tolerance, atol=tolerance
            )
        else:
            assert p not in optimizer.state  # never had a gradient


@pytest.mark.parametrize("lr", [0.3, 0.002, 0.0])
def test_clipped_rate_control_parameter_by_parameter(lr):
    """The formula of solo-learn's LARS with clip_lr and exclude_bias_n_norm, one p at a time."""
    torch.manual_seed(0)
    start = {
        "large": torch.randn(5, 4),
        "small": 1e-3 * torch.randn(5, 4),
        "zero": torch.zeros(3, 2),
        "bias": torch.randn(5),
    }
    params = {name: nn.Parameter(p.clone().double()) for name, p in start.items()}
    optimizer = LARC(params.values(), lr=lr, momentum=0.9, weight_decay=0.1)
    expected = {name: p.clone().double() for name, p in start.items()}
    momentum = {name: torch.zeros_like(p) for name, p in expected.items()}
    for _ in range(3):
        gradients = {name: torch.randn(p.shape).double() for name, p in start.items()}
        for name, p in params.items():
            p.grad = gradients[name].clone()
        optimizer.step()
        for name, p in expected.items():
            g = gradients[name]
            if p.ndim > 1 and p.norm() > 0:
                rate = 0.02 * p.norm() / (g.norm() + 0.1 * p.norm() + 1e-8)
                g = (g + 0.1 * p) * (min(float(rate) / lr, 1) if lr else 1)
            momentum[name] = 0.9 * momentum[name] + g
            p -= lr * momentum[name]
    for name, p in params.items():
        torch.testing.assert_close(p.detach(), expected[name])


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "lars", "larc", "larc-sgd", "adam", "adamw"])
def test_resumed_optimizer_goes_on_as_if_never_stopped(name):
    spec = OptimizerSpec(name, lr=0.1, weight_decay=0.01)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = create_optimizer(spec, [{"name": "all", "params": list(model.parameters())}])
    _train(model, optimizer, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(model)
    resumed = create_optimizer(spec, [{"name": "all", "params": list(twin.parameters())}])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _train(model, optimizer, range(3, 6))
    _train(twin, resumed, range(3, 6))
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


@pytest.mark.parametrize("optimizer_class", [LARS, LARCSGD])
def test_step_runs_a_closure(optimizer_class):
    p = nn.Parameter(torch.ones(2, 2))
    optimizer = optimizer_class([p], lr=0.1)

    def closure() -> torch.Tensor:
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert not torch.equal(p, torch.ones(2, 2))


def test_groups_keep_their_names_and_own_learning_rates():
    encoder, predictor = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [
        {"name": "encoder", "params": list(encoder.parameters())},
        {"name": "predictor", "params": list(predictor.parameters())},
    ]
    spec = OptimizerSpec("sgd", lr=0.5, momentum=0.8, group_lr={"predictor": 0.1})
    optimizer = create_optimizer(spec, groups)
    found = [(g["name"], g["lr"], g["momentum"]) for g in optimizer.param_groups]
    assert found == [("encoder", 0.5, 0.8), ("predictor", 0.1, 0.8)]
    assert "lr" not in groups[0]
    with pytest.raises(ValueError, match="head.*encoder"):
        create_optimizer(OptimizerSpec("sgd", lr=0.5, group_lr={"head": 0.1}), groups)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lamb", "lr": 0.1}, "'lamb'.*lars"),
        ({"name": "sgd", "lr": 0.0}, "positive"),
        ({"name": "sgd", "lr": math.nan}, "positive"),
        ({"name": "sgd", "lr": 0.1, "momentum": 1.0}, "momentum"),
        ({"name": "sgd", "lr": 0.1, "weight_decay": -1.0}, "decay"),
        ({"name": "sgd", "lr": 0.1, "group_lr": {"predictor": -1.0}}, "predictor"),
    ],
)
def test_impossible_optimizers_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerSpec(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "step"}, "'step'"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"final_factor": 2.0}, "final_factor"),
    ],
)
def test_impossible_schedules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ScheduleSpec(**settings)


@pytest.mark.parametrize(
    ("schedule", "key"),
    [
        (ScheduleSpec("cosine", warmup_epochs=10, final_factor=0.001), "vicreg_warmup_cosine"),
        (ScheduleSpec("constant"), "vicreg_fixed"),
    ],
)
def test_vicreg_schedules_are_the_official_ones(golden, schedule, key):
    g = golden("lr_schedules")
    lr = float(g["base_lr"]) * int(g["batch_size"]) / 256
    per_epoch, epochs = int(g["steps_per_epoch"]), int(g["epochs"])
    length = per_epoch, per_epoch * epochs
    rates = [lr * learning_rate_factor(schedule, step, *length) for step in g["steps"].tolist()]
    assert rates == pytest.approx(g[key].tolist(), rel=1e-9)


def test_simsiam_cosine_is_the_official_one_at_every_epochs_start(golden):
    g = golden("lr_schedules")
    encoder = g["simsiam_cosine_lr_encoder_predictor_init0.1"][:, 0]
    steps = (10 * g["simsiam_cosine_epochs"]).tolist()
    rates = [0.1 * learning_rate_factor(ScheduleSpec("cosine"), step, 10, 1000) for step in steps]
    assert rates == pytest.approx(encoder.tolist(), rel=1e-9)


def test_schedules_at_their_ends():
    cosine = ScheduleSpec("cosine", warmup_epochs=2, final_factor=0.1)
    assert learning_rate_factor(cosine, 0, 5, 50) == 0
    assert learning_rate_factor(cosine, 10, 5, 50) == 1
    assert learning_rate_factor(cosine, 50, 5, 50) == pytest.approx(0.1)
    constant = ScheduleSpec("constant", warmup_epochs=1)
    assert [learning_rate_factor(constant, s, 4, 8) for s in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
