"""What fits a module, and which values may go on."""

import math

import pytest
import torch
from torch import nn

from e2mc.checkpoints.reading import CheckpointError
from e2mc.checkpoints.weights import load_strictly


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def weights(**changes):
    return {key: value.clone() for key, value in network().state_dict().items()} | changes


def test_weights_that_do_not_fit_are_named():
    with pytest.raises(CheckpointError) as caught:
        load_strictly(
            nn.Linear(2, 3), {"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}, "head"
        )
    for part in ("bias is missing", "extra is unexpected", "weight has shape (3, 4) instead of"):
        assert part in str(caught.value)


def test_many_that_do_not_fit_are_counted():
    many = {f"{number}.weight": torch.zeros(1) for number in range(500)}
    with pytest.raises(
        CheckpointError, match="500 unexpected, 0 misshapen.*and 496 more"
    ) as caught:
        load_strictly(nn.Sequential(*[nn.Linear(1, 1, bias=False)] * 0), many, "head")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floating_weights_become_float32(dtype):
    module = network()
    found = {key: value.to(dtype) for key, value in weights().items()}  # the counter too
    load_strictly(module, found, "network")
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, found["0.weight"].float())
    assert module[1].num_batches_tracked.dtype == torch.int64


FAULTS = {
    "nan": ("0.weight", torch.full((4, 3, 3, 3), math.nan), "has 108 values that are NaN or"),
    "inf": ("0.bias", torch.tensor([0, math.inf, 0, 0]), "has 1 values that are NaN or infinite"),
    "half": ("0.bias", torch.full((4,), math.inf).half(), "has 4 values"),
    "large": (
        "0.bias",
        torch.full((4,), 1e300, dtype=torch.float64),
        "has 4 values",
    ),
    "mean": ("1.running_mean", torch.full((4,), math.nan), "has 4 values that are NaN"),
    "variance": ("1.running_var", torch.tensor([1.0, -1, 1, 1]), "has negative variances"),
    "integer": ("0.bias", torch.ones(4, dtype=torch.int64), "is int64, expected float32, float64"),
    "bool": ("0.bias", torch.ones(4) > 0, "is bool, expected float32"),
    "complex": ("0.bias", torch.ones(4, dtype=torch.complex64), "is complex64, expected float32"),
    "float8": ("0.bias", torch.ones(4).to(torch.float8_e4m3fn), "is float8_e4m3fn, expected float"),
    "sparse": ("0.bias", torch.ones(4).to_sparse(), "is quantised or sparse"),
    "quantised": (
        "0.bias",
        torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        "is quantised or sparse",
    ),
    "meta": ("0.bias", torch.ones(4, device="meta"), "has no values"),
    "counter": ("1.num_batches_tracked", torch.tensor(1.5), "is float32, expected whole numbers"),
    "negative": ("1.num_batches_tracked", torch.tensor(-1), "is negative"),
    "complex counter": ("1.num_batches_tracked", torch.tensor(1j), "is complex64, expected whole"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", FAULTS)
def test_values_that_cannot_go_on(kind):
    key, value, message = FAULTS[kind]
    module = network()
    before = weights_of(module)
    with pytest.raises(CheckpointError, match=rf"cannot be used in .*theirs\.{key} {message}"):
        load_strictly(module, weights(**{key: value}), "net", lambda name: f"theirs.{name}")
    assert all(torch.equal(before[name], item) for name, item in module.state_dict().items())


def weights_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def test_a_counter_that_is_missing_is_filled_in():
    found = weights()
    del found["1.num_batches_tracked"]
    module = network()
    load_strictly(module, found, "network")
    assert torch.equal(module[0].weight, found["0.weight"])
    assert int(module[1].num_batches_tracked) == 0
