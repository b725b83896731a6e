from dataclasses import replace

import pytest

from e2mc.training.spec import Component


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": -3},
        {"batch_size": 1},
        {"micro_batches": 0},
        {"steps": 0, "epochs": None},
    ],
)
def test_bad_specs_are_refused(spec, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least"):
        replace(spec, **change)


@pytest.mark.parametrize(
    ("length", "found"), [({"steps": 5}, "epochs 2 and steps 5"), ({"epochs": None}, "none")]
)
def test_length_is_in_epochs_or_in_steps(spec, length, found):
    with pytest.raises(ValueError, match=f"one of epochs and steps, found {found}: leave"):
        replace(spec, **length)


@pytest.mark.parametrize("name", ["micro_batches", "augmentation_streams"])
def test_spec_whose_batch_does_not_divide_is_refused(spec, name):
    with pytest.raises(ValueError, match=f"batch_size 16 must be a multiple of {name} 3"):
        replace(spec, **{name: 3})


def test_criterion_named_twice_is_refused(spec):
    criteria = (Component("er"), Component("e2mc"), Component("er", {"kappa": 5.0}))
    with pytest.raises(ValueError, match="criteria: 'er' is named 2 times, expected once"):
        replace(spec, criteria=criteria)
