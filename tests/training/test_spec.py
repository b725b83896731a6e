from dataclasses import asdict, replace

import pytest

from e2mc.training.spec import Component


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"epochs": -3}, {"batch_size": 1}, {"micro_batches": 0}]
)
def test_bad_specs_are_refused(spec, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least"):
        replace(spec, **change)


@pytest.mark.parametrize("name", ["micro_batches", "augmentation_streams"])
def test_spec_whose_batch_does_not_divide_is_refused(spec, name):
    with pytest.raises(ValueError, match=f"batch_size 16 must be a multiple of {name} 3"):
        replace(spec, **{name: 3})


def test_criterion_named_twice_is_refused(spec):
    criteria = (Component("er"), Component("e2mc"), Component("er", {"kappa": 5.0}))
    with pytest.raises(ValueError, match="criteria: 'er' is named 2 times, expected once"):
        replace(spec, criteria=criteria)


@pytest.mark.parametrize("epochs", [-1, 2, 3])
def test_a_warm_up_that_leaves_nothing_is_refused(spec, epochs):
    with pytest.raises(ValueError, match=f"must leave some of the 2 epochs to .* found {epochs}"):
        replace(spec, head_warmup_epochs=epochs)


def test_values_of_old_files_stay_as_they_are(spec):
    """A key that is younger than a file is among the values only where it is used."""
    assert spec.values() == {k: v for k, v in asdict(spec).items() if k != "head_warmup_epochs"}
    assert replace(spec, head_warmup_epochs=1).values()["head_warmup_epochs"] == 1
