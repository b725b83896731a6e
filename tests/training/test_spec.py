from dataclasses import asdict, replace

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
    with pytest.raises(ValueError, match=f"one of epochs and steps, found {found}: give"):
        replace(spec, **length)


@pytest.mark.parametrize("name", ["micro_batches", "augmentation_streams"])
def test_spec_whose_batch_does_not_divide_is_refused(spec, name):
    with pytest.raises(ValueError, match=f"batch_size 16 must be a multiple of {name} 3"):
        replace(spec, **{name: 3})


def test_criterion_named_twice_is_refused(spec):
    criteria = (Component("er"), Component("e2mc"), Component("er", {"kappa": 5.0}))
    with pytest.raises(ValueError, match="criteria: 'er' is named 2 times, expected once"):
        replace(spec, criteria=criteria)


def test_a_warm_up_is_not_negative(spec):
    with pytest.raises(ValueError, match="head_warmup_epochs must be at least 0, found -1"):
        replace(spec, head_warmup_epochs=-1)


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_warm_up_that_leaves_nothing_is_refused(spec, epochs):
    with pytest.raises(ValueError, match=f"must leave some of the 2 epochs to .* found {epochs}"):
        replace(spec, head_warmup_epochs=epochs)


def test_values_of_old_files_stay_as_they_are(spec):
    """A key that is younger than a file is among the values only where it is used."""
    young = {"head_warmup_epochs", "steps"}
    assert spec.values() == {k: v for k, v in asdict(spec).items() if k not in young}
    in_steps = replace(spec, epochs=None, steps=5).values()
    assert (in_steps["epochs"], in_steps["steps"]) == (None, 5)
    assert replace(spec, head_warmup_epochs=1).values()["head_warmup_epochs"] == 1
