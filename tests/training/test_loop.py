import csv
import dataclasses

import pytest
import torch

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.models.checkpoint import CheckpointError, load_checkpoint
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.training import loop
from e2mc.training.loop import Component, TrainingError, TrainingSpec, pretrain

VIEW = ViewRecipe(28, count=2, crop_scale=(0.3, 1.0), jitter=0.5, brightness=0.4)
METHODS = {
    "vicreg": (Component("vicreg", {"expander": [16, 16, 16]}), (VIEW,)),
    "swav": (
        Component("swav", {"hidden_dim": 16, "dim": 8, "prototypes": 10, "queue_length": 32}),
        (VIEW, ViewRecipe(14, count=2, crop_scale=(0.1, 0.3))),
    ),
    "simsiam": (Component("simsiam", {"dim": 16, "predictor_hidden_dim": 8}), (VIEW,)),
}


def spec_of(method="vicreg", **changes):
    component, views = METHODS[method]
    spec = TrainingSpec(
        backbone="resnet-small",
        method=component,
        views=views,
        normalisation=Normalisation((0.3,), (0.3,)),
        optimizer=OptimizerSpec("adamw", lr=1e-3),
        schedule=ScheduleSpec("cosine"),
        epochs=2,
        batch_size=16,
    )
    return dataclasses.replace(spec, **changes)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.rand(72, 1, 28, 28, generator=generator) * 255).byte()
    return ImageSet(pixels, torch.zeros(72, dtype=torch.long), ("a",))


def weights(path):
    return load_checkpoint(path).model


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_equals_undisturbed(method, images, tmp_path, monkeypatch):
    criterion = Component("e2mc", {"entropy_weight": 0.1})
    spec = spec_of(method, criterion=criterion)
    pretrain(spec, images, tmp_path / "a" / "checkpoint.pt", state_every=3)

    advance = loop._Run.advance

    def killed_in_step_7(run):
        if run.step == 7:
            raise KeyboardInterrupt
        return advance(run)

    monkeypatch.setattr(loop._Run, "advance", killed_in_step_7)
    with pytest.raises(KeyboardInterrupt):
        pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", state_every=3)
    assert not (tmp_path / "b" / "checkpoint.pt").exists()
    assert (tmp_path / "b" / "checkpoint.pt.state").exists()
    steps = []

    def counted(run):
        steps.append(run.step)
        return advance(run)

    monkeypatch.setattr(loop._Run, "advance", counted)
    pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", state_every=3)
    assert steps == [6, 7]
    undisturbed, resumed = (weights(tmp_path / name / "checkpoint.pt") for name in "ab")
    assert same(undisturbed, resumed)
    logs = [(tmp_path / name / "training.csv").read_text() for name in "ab"]
    assert logs[0] == logs[1]
    assert not (tmp_path / "b" / "checkpoint.pt.state").exists()


def test_state_of_another_run_is_not_resumed(images, tmp_path, monkeypatch):
    output = tmp_path / "checkpoint.pt"
    run = loop._Run(spec_of(seed=1), images, None, "cpu")
    run.advance()
    run.save(output.with_name("checkpoint.pt.state"))
    pretrain(spec_of(seed=0), images, output)
    pretrain(spec_of(seed=0), images, tmp_path / "fresh.pt")
    assert same(weights(output), weights(tmp_path / "fresh.pt"))


def test_every_term_is_logged(images, tmp_path):
    spec = spec_of(criterion=Component("e2mc", {"entropy_weight": 2.0, "covariance_weight": 3.0}))
    pretrain(spec, images, tmp_path / "checkpoint.pt")
    rows = list(csv.DictReader((tmp_path / "training.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    row = {key: float(value) for key, value in rows[-1].items()}
    expected = (
        25 * row["vicreg_invariance"]
        + 25 * row["vicreg_variance"]
        + row["vicreg_covariance"]
        - 2 * row["e2mc/entropy"]
        + 3 * row["e2mc/covariance"]
    )
    assert row["loss"] == pytest.approx(expected, rel=1e-4)


def test_continued_run_starts_from_its_base(images, tmp_path):
    pretrain(spec_of("swav"), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    assert not any("queue" in key for key in start.model)
    crawl = spec_of("swav", optimizer=OptimizerSpec("sgd", lr=1e-12), epochs=1)
    pretrain(crawl, images, tmp_path / "continued.pt", start=start)
    continued = load_checkpoint(tmp_path / "continued.pt")
    assert continued.epochs == 3
    for name, parameter in start.load_backbone().named_parameters():
        torch.testing.assert_close(continued.model[f"backbone.{name}"], parameter.detach())


def test_arms_of_one_seed_see_the_same_views(images):
    plain = loop._Run(spec_of(), images, None, "cpu")
    other = loop._Run(spec_of(criterion=Component("auh", {})), images, None, "cpu")
    for first, second in zip(plain._views(1, 2), other._views(1, 2), strict=True):
        assert torch.equal(first, second)
    third = loop._Run(spec_of(seed=1), images, None, "cpu")._views(1, 2)
    assert not torch.equal(first, third[1])


def test_every_image_is_seen_once_an_epoch(images):
    run = loop._Run(spec_of(drop_last=False), images, None, "cpu")
    assert run.steps_per_epoch == 5
    sizes = [len(run._views(0, position)[0]) for position in range(5)]
    assert sizes == [16, 16, 16, 16, 8]


def test_restored_optimizer_keeps_the_new_settings(images, tmp_path):
    pretrain(spec_of(keep_optimizer=True), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    spec = spec_of(optimizer=OptimizerSpec("adamw", lr=5e-5), restore_optimizer=True)
    run = loop._Run(spec, images, start, "cpu")
    assert run.initial_rates == [5e-5]
    moments = [state["exp_avg"] for state in run.optimizer.state.values()]
    assert moments and all(moment.abs().sum() > 0 for moment in moments)
    fresh = loop._Run(dataclasses.replace(spec, restore_optimizer=False), images, start, "cpu")
    assert not fresh.optimizer.state


def test_loss_that_is_not_finite_stops_the_run(images, tmp_path):
    spec = spec_of(optimizer=OptimizerSpec("sgd", lr=1e30))
    with pytest.raises(TrainingError, match=r"the loss is .* at step \d of 8 .*lower the learning"):
        pretrain(spec, images, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_fewer_images_than_a_batch(images, tmp_path):
    with pytest.raises(TrainingError, match="72 images do not fill one batch of 100"):
        pretrain(spec_of(batch_size=100), images, tmp_path / "checkpoint.pt")


def test_weights_that_do_not_fit_are_named(images, tmp_path):
    pretrain(spec_of(epochs=1), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    other = spec_of(method="vicreg")
    other = dataclasses.replace(other, method=Component("vicreg", {"expander": [16, 16, 24]}))
    with pytest.raises(CheckpointError, match=r"projector\.6\.weight has shape \(16, 16\)"):
        pretrain(other, images, tmp_path / "checkpoint.pt", start=start)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"epochs": -3}, {"batch_size": 1}])
def test_bad_specs_are_refused(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least"):
        spec_of(**change)
