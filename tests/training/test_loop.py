import csv
import dataclasses
import itertools

import pytest
import torch

from e2mc import progress
from e2mc.checkpoints.checkpoint import CheckpointError, load_checkpoint
from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.evaluation.information import Information
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.progress import Interrupted
from e2mc.training import loop
from e2mc.training.loop import pretrain
from e2mc.training.spec import Component, TrainingError, TrainingSpec

VIEW = ViewRecipe(28, count=2, crop_scale=(0.3, 1.0), jitter=0.5, brightness=0.4)
METHODS = {
    "vicreg": (Component("vicreg", {"expander": [16, 16, 16]}), (VIEW,)),
    "swav": (
        Component("swav", {"hidden_dim": 16, "dim": 8, "prototypes": 10, "queue_length": 32}),
        (VIEW, ViewRecipe(14, count=2, crop_scale=(0.1, 0.3))),
    ),
    "simsiam": (Component("simsiam", {"dim": 16, "predictor_hidden_dim": 8}), (VIEW,)),
    "anchor": (Component("anchor"), (VIEW,)),
    "byol": (Component("byol", {"hidden_dim": 16, "dim": 8, "ema": 0.9}), (VIEW,)),
    "dino": (
        Component("dino", {"hidden_dim": 16, "dim": 8, "prototypes": 12, "ema": 0.9}),
        (VIEW, ViewRecipe(14, count=2, crop_scale=(0.1, 0.3))),
    ),
    "deepcluster": (
        Component("deepcluster", {"hidden_dim": 16, "dim": 8, "prototypes": [6, 5]}),
        (VIEW,),
    ),
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


def logged(path):
    """The rows of a log without the seconds, which no two runs share."""
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in csv.DictReader(path.open())
    ]


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_equals_undisturbed(method, images, tmp_path, monkeypatch):
    spec = spec_of(method, criteria=(Component("e2mc", {"entropy_weight": 0.1}),))
    pretrain(spec, images, tmp_path / "a" / "checkpoint.pt", state_every=3)

    advance = loop._Training.advance

    def killed_in_step_7(run, views):
        if run.step == 7:
            raise KeyboardInterrupt
        return advance(run, views)

    monkeypatch.setattr(loop._Training, "advance", killed_in_step_7)
    with pytest.raises(KeyboardInterrupt):
        pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", state_every=3)
    assert not (tmp_path / "b" / "checkpoint.pt").exists()
    assert (tmp_path / "b" / "checkpoint.pt.state").exists()
    steps = []

    def counted(run, views):
        steps.append(run.step)
        return advance(run, views)

    monkeypatch.setattr(loop._Training, "advance", counted)
    pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", state_every=3)
    assert steps == [6, 7]
    undisturbed, resumed = (weights(tmp_path / name / "checkpoint.pt") for name in "ab")
    assert same(undisturbed, resumed)
    logs = [logged(tmp_path / name / "training.csv") for name in "ab"]
    assert logs[0] == logs[1]
    assert not (tmp_path / "b" / "checkpoint.pt.state").exists()


def test_state_of_another_run_is_not_resumed(images, tmp_path, monkeypatch):
    output = tmp_path / "checkpoint.pt"
    run = loop._Training(spec_of(seed=1), images, None, "cpu")
    run.advance(run.views())
    run.save(output.with_name("checkpoint.pt.state"))
    pretrain(spec_of(seed=0), images, output)
    pretrain(spec_of(seed=0), images, tmp_path / "fresh.pt")
    assert same(weights(output), weights(tmp_path / "fresh.pt"))


@pytest.mark.parametrize(
    ("identity", "resumed"), [("ours", True), ("edited", False), (None, False)]
)
def test_state_of_another_identity_is_not_resumed(identity, resumed, images, tmp_path, monkeypatch):
    steps, advance = [], loop._Training.advance

    def counted(run, views):
        steps.append(run.step)
        if steps == [0, 1, 2]:
            raise KeyboardInterrupt
        return advance(run, views)

    monkeypatch.setattr(loop._Training, "advance", counted)
    output = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        pretrain(spec_of(epochs=1), images, output, state_every=1, identity="ours")
    pretrain(spec_of(epochs=1), images, output, identity=identity)
    assert steps[3] == (2 if resumed else 0)
    pretrain(spec_of(epochs=1), images, tmp_path / "fresh.pt")
    ours, fresh = load_checkpoint(output), load_checkpoint(tmp_path / "fresh.pt")
    assert same(ours.model, fresh.model) and ours.provenance == fresh.provenance


def test_every_term_is_logged(images, tmp_path):
    spec = spec_of(criteria=(Component("e2mc", {"entropy_weight": 2.0, "covariance_weight": 3.0}),))
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


def test_losses_of_several_criteria_are_added(images, tmp_path):
    e2mc, er = Component("e2mc", {"window": 3}), Component("er", {"entropy_weight": 2.0})
    runs = {}
    for name, criteria in {"none": (), "e2mc": (e2mc,), "er": (er,), "both": (e2mc, er)}.items():
        run = loop._Training(spec_of(criteria=criteria), images, None, "cpu")
        _, runs[name] = run.advance(run.views())
    terms = runs["both"]
    assert terms.keys() == runs["e2mc"].keys() | runs["er"].keys()
    assert all(torch.equal(terms[key], (runs["e2mc"] | runs["er"])[key]) for key in terms
               if key != "loss")  # fmt: skip
    added = runs["e2mc"]["loss"] + runs["er"]["loss"] - runs["none"]["loss"]
    torch.testing.assert_close(terms["loss"], added)


def test_continued_run_starts_from_its_base(images, tmp_path):
    pretrain(spec_of("swav"), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    assert not any("queue" in key for key in start.model)
    crawl = spec_of("swav", optimizer=OptimizerSpec("sgd", lr=1e-12), epochs=1)
    pretrain(crawl, images, tmp_path / "continued.pt", start=start)
    continued = load_checkpoint(tmp_path / "continued.pt")
    assert continued.epochs == 3
    assert continued.provenance["start"] == start.provenance
    for name, parameter in start.load_backbone().named_parameters():
        torch.testing.assert_close(continued.model[f"backbone.{name}"], parameter.detach())


@pytest.mark.parametrize("at", [1, 5])
def test_asked_to_stop_it_saves_and_goes_on(at, images, tmp_path, monkeypatch):
    pretrain(spec_of("swav"), images, tmp_path / "a" / "checkpoint.pt")

    advance = loop._Training.advance

    def asked_in_step(run, views):
        if run.step == at:
            progress.request_stop()
        return advance(run, views)

    monkeypatch.setattr(loop._Training, "advance", asked_in_step)
    output = tmp_path / "b" / "checkpoint.pt"
    with pytest.raises(Interrupted, match=rf"after step {at + 1} of 8; its state is in"):
        pretrain(spec_of("swav"), images, output)
    assert not output.exists()
    progress.forget_stop()
    monkeypatch.setattr(loop._Training, "advance", advance)
    pretrain(spec_of("swav"), images, output)
    assert same(weights(tmp_path / "a" / "checkpoint.pt"), weights(output))


def test_asked_to_stop_in_the_last_step_it_finishes(images, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_wish", True)
    pretrain(spec_of(batch_size=72, epochs=1), images, tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").exists()


def test_arms_of_one_seed_see_the_same_views(images):
    plain = loop._Training(spec_of(), images, None, "cpu").views()
    other = loop._Training(spec_of(criteria=(Component("auh", {}),)), images, None, "cpu").views()
    third = loop._Training(spec_of(seed=1), images, None, "cpu").views()
    for _ in range(6):
        (same, of_plain), (also, of_other), (_, of_third) = next(plain), next(other), next(third)
        assert torch.equal(same, also)
        for first, second, different in zip(of_plain, of_other, of_third, strict=True):
            assert torch.equal(first, second)
            assert not torch.equal(first, different)


def test_micro_batches_make_one_step(images):
    run = loop._Training(spec_of(micro_batches=2), images, None, "cpu")
    assert [len(indices) for indices, _ in itertools.islice(run.views(), 2)] == [8, 8]
    before = run.method.state_dict()["backbone.stem.0.weight"].clone()
    run.advance(run.views())
    assert run.step == 1 and not torch.equal(before, run.method.backbone.stem[0].weight)


def test_micro_batches_add_up_to_the_gradient_of_their_mean(images):
    plain = spec_of("simsiam", optimizer=OptimizerSpec("sgd", lr=0.1, momentum=0.0))
    halves = loop._Training(dataclasses.replace(plain, micro_batches=2), images, None, "cpu")
    start = {k: v.clone() for k, v in halves.method.state_dict().items()}
    views = list(itertools.islice(halves.views(), 2))
    halves.advance(iter(views))
    expected = loop._Training(plain, images, None, "cpu")
    weight = expected.method.backbone.stem[0].weight
    gradients = []
    for _, half in views:
        expected.method.load_state_dict(start)
        gradients += torch.autograd.grad(expected.method(half).loss, weight)
    moved = start["backbone.stem.0.weight"] - 0.1 * sum(gradients) / 2
    torch.testing.assert_close(halves.method.backbone.stem[0].weight, moved)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_single(precision, images, tmp_path):
    optimizer = OptimizerSpec("sgd", lr=0.01)
    rows = {}
    for name in ("float32", precision):
        spec = spec_of(precision=name, optimizer=optimizer, criteria=(Component("e2mc", {}),))
        pretrain(spec, images, tmp_path / name / "checkpoint.pt")
        rows[name] = list(csv.DictReader((tmp_path / name / "training.csv").open()))
        assert all(
            v.dtype != torch.half for v in weights(tmp_path / name / "checkpoint.pt").values()
        )
    first = [float(rows[name][0]["loss"]) for name in rows]
    assert first[0] != first[1]
    assert first[1] == pytest.approx(first[0], rel=0.03)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_backbone_takes_the_same_steps(backend, images, tmp_path, monkeypatch):
    translated = []

    def translate(call, compile=torch.compile, **options):
        translated.append(type(call.__self__).__name__)
        return compile(call, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", translate)
    losses, names = [], []
    for compiled in (False, True):
        output = tmp_path / str(compiled) / "checkpoint.pt"
        pretrain(spec_of("swav", compile=compiled), images, output)
        losses.append([float(row["loss"]) for row in logged(output.with_name("training.csv"))])
        names.append(list(weights(output)))
    assert translated == ["SmallResNet"] and names[0] == names[1]
    # rounding grows from step to step
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)


def test_optimizer_state_that_is_not_there(images, tmp_path):
    pretrain(spec_of(), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    with pytest.raises(CheckpointError, match="restore_optimizer is set, but the checkpoint"):
        pretrain(spec_of(restore_optimizer=True), images, tmp_path / "x.pt", start=start)


def test_restored_optimizer_keeps_the_new_settings(images, tmp_path):
    pretrain(spec_of(keep_optimizer=True), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    spec = spec_of(optimizer=OptimizerSpec("adamw", lr=5e-5), restore_optimizer=True)
    run = loop._Training(spec, images, start, "cpu")
    assert run.initial_rates == [5e-5]
    moments = [state["exp_avg"] for state in run.optimizer.state.values()]
    assert moments and all(moment.abs().sum() > 0 for moment in moments)
    fresh = loop._Training(dataclasses.replace(spec, restore_optimizer=False), images, start, "cpu")
    assert not fresh.optimizer.state


def test_length_in_steps_is_that_of_as_many_epochs(images, tmp_path):
    """And 5 steps, within an epoch of 4, end where the cosine does."""
    for name, length in (("epochs", {}), ("whole", {"steps": 8}), ("part", {"steps": 5})):
        spec = spec_of(epochs=None, **length) if length else spec_of()
        pretrain(spec, images, tmp_path / f"{name}.pt")
    assert same(weights(tmp_path / "epochs.pt"), weights(tmp_path / "whole.pt"))
    assert load_checkpoint(tmp_path / "part.pt").epochs == 2
    rates = [float(row["lr"]) for row in logged(tmp_path / "part-training.csv")]
    assert len(rates) == 5 and rates == sorted(rates, reverse=True) and rates[-1] < 2e-4


def test_runs_in_one_folder_leave_each_other_alone(images, tmp_path):
    for name, rate in (("a", 1e-3), ("b", 1e-2)):
        spec = spec_of(epochs=1, optimizer=OptimizerSpec("adamw", lr=rate))
        pretrain(spec, images, tmp_path / f"{name}.pt", measure=embedding_scale)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}{end}" for name in "ab" for end in (".pt", "-training.csv", "-information.csv")
    }
    for name, rate in (("a", 1e-3), ("b", 1e-2)):
        assert float(logged(tmp_path / f"{name}-training.csv")[0]["lr"]) == rate


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_quiet_run_says_nothing(micro_batches, images, tmp_path, capsys):
    spec = spec_of(epochs=1, micro_batches=micro_batches)
    pretrain(spec, images, tmp_path / "said.pt")
    said = capsys.readouterr().err
    assert "pre-training: step 4 of 4" in said
    assert ("in parts of 8" in said) == (micro_batches == 2)
    pretrain(spec, images, tmp_path / "quiet.pt", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_loss_that_is_not_finite_stops_the_run(images, tmp_path):
    spec = spec_of(optimizer=OptimizerSpec("sgd", lr=1e30))
    with pytest.raises(TrainingError, match=r"the loss is .* at step \d of 8 .*lower the learning"):
        pretrain(spec, images, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_do_not_fit_are_named(images, tmp_path):
    pretrain(spec_of(epochs=1), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    other = spec_of(method="vicreg")
    other = dataclasses.replace(other, method=Component("vicreg", {"expander": [16, 16, 24]}))
    with pytest.raises(CheckpointError, match=r"projector\.6\.weight has shape \(16, 16\)"):
        pretrain(other, images, tmp_path / "checkpoint.pt", start=start)


def embedding_scale(method):
    """A measurement that a training step changes."""
    return {"scale": float(next(method.projector.parameters()).detach().norm())}


@pytest.mark.parametrize(
    ("method", "criteria"),
    [
        ("deepcluster", (Component("sigreg", {"directions": 8}),)),
        (
            "byol",
            (
                Component("corinfomax"),
                Component("er", {"reconstruction_weight": 1.0, "learnable_kappa": True}),
            ),
        ),
    ],
)
def test_killed_at_the_start_of_an_epoch(method, criteria, images, tmp_path, monkeypatch):
    """What an epoch begins with happens once; criteria and measurements go on from the state."""
    spec = spec_of(method, criteria=criteria)
    options = {"state_every": 4, "measure": embedding_scale}
    pretrain(spec, images, tmp_path / "a" / "checkpoint.pt", **options)
    advance = loop._Training.advance

    def killed_in_step_5(run, views):
        if run.step == 5:
            raise KeyboardInterrupt
        return advance(run, views)

    monkeypatch.setattr(loop._Training, "advance", killed_in_step_5)
    with pytest.raises(KeyboardInterrupt):
        pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", **options)
    monkeypatch.setattr(loop._Training, "advance", advance)
    pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", **options)
    assert same(*(weights(tmp_path / name / "checkpoint.pt") for name in "ab"))
    for file in ("training.csv", "information.csv"):
        logs = [logged(tmp_path / name / file) for name in "ab"]
        assert logs[0] == logs[1]


@pytest.mark.parametrize("method", ["swav", "byol"])
def test_measuring_changes_nothing_of_the_training(method, images, tmp_path):
    spec = spec_of(method)

    def measure(model):
        return Information(images=40).measure(model, images, spec.views, spec.normalisation)

    pretrain(spec, images, tmp_path / "a" / "checkpoint.pt")
    pretrain(spec, images, tmp_path / "b" / "checkpoint.pt", measure=measure)
    assert same(*(weights(tmp_path / name / "checkpoint.pt") for name in "ab"))
    logs = [logged(tmp_path / name / "training.csv") for name in "ab"]
    assert logs[0] == logs[1]
    assert not (tmp_path / "a" / "information.csv").exists()
    rows = list(csv.DictReader((tmp_path / "b" / "information.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert "entropy" in rows[0] and "marginal_entropy" in rows[0]
    assert len({row["entropy"] for row in rows}) == 3


@pytest.mark.parametrize("ema", [0.0, 1.0])
def test_target_network_follows_every_step(ema, images, tmp_path):
    params = {"hidden_dim": 16, "dim": 8, "ema": ema, "ema_last": ema}
    spec = dataclasses.replace(spec_of("byol"), method=Component("byol", params))
    start = loop._Training(spec, images, None, "cpu").method.state_dict()
    pretrain(spec, images, tmp_path / "checkpoint.pt")
    model = weights(tmp_path / "checkpoint.pt")
    for name in ("target_projector.0.weight", "target_backbone.stem.0.weight"):
        expected = start[name] if ema else model[name.removeprefix("target_")]
        assert torch.equal(model[name], expected)


def test_learnable_kappa_is_trained(images):
    params = {"reconstruction_weight": 1.0, "learnable_kappa": True, "kappa": 10.0}
    run = loop._Training(spec_of(criteria=(Component("er", params),)), images, None, "cpu")
    assert run.optimizer.param_groups[-1]["name"] == "criterion"
    before = run.criteria[0].log_kappa.item()
    run.advance(run.views())
    assert run.criteria[0].log_kappa.item() != before


def test_learnable_kappa_goes_with_a_restored_optimizer(images, tmp_path):
    pretrain(spec_of(keep_optimizer=True), images, tmp_path / "base.pt")
    start = load_checkpoint(tmp_path / "base.pt")
    params = {"reconstruction_weight": 1.0, "learnable_kappa": True}
    spec = spec_of(restore_optimizer=True, criteria=(Component("er", params),))
    run = loop._Training(spec, images, start, "cpu")
    assert [group["name"] for group in run.optimizer.param_groups] == ["all", "criterion"]
    assert len(run.optimizer.state) == len(run.optimizer.param_groups[0]["params"])
    run.advance(run.views())


def test_deepcluster_fills_its_bank_with_every_image(images):
    """Also with those that the epochs leave out."""
    run = loop._Training(spec_of("deepcluster"), images, None, "cpu")
    run.advance(run.views())
    assert run.method.bank.shape == (2, 72, 8)
    torch.testing.assert_close(run.method.bank.norm(dim=2), torch.ones(2, 72))


def parts(run):
    """The state of a run's backbone, and of its heads."""
    state = {key: value.clone() for key, value in run.method.state_dict().items()}
    backbone = {key: value for key, value in state.items() if key.startswith("backbone.")}
    return backbone, {key: value for key, value in state.items() if key not in backbone}


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"anchor"}))
def test_heads_warm_up_while_the_backbone_rests(method, images):
    """Weights and batch statistics; weight decay reaches neither."""
    spec = spec_of(method, epochs=3, head_warmup_epochs=1)
    spec = dataclasses.replace(spec, optimizer=OptimizerSpec("adamw", lr=1e-3, weight_decay=0.1))
    run = loop._Training(spec, images, None, "cpu")
    views, (backbone, heads) = run.views(), parts(run)
    for _ in range(run.order.steps_per_epoch):
        run.advance(views)
    rested, learnt = parts(run)
    assert same(rested, backbone) and not same(learnt, heads)
    run.advance(views)
    moved, _ = parts(run)
    assert not any(
        torch.equal(moved[key], value) for key, value in backbone.items() if "running" in key
    )
    assert not same(moved, rested)


def test_criteria_wait_for_the_heads(images):
    """Heads warm up by the method's own loss alone; what a criterion would say is logged."""
    found = []
    for criteria in ((), (Component("e2mc", {"entropy_weight": 10.0}),)):
        run = loop._Training(spec_of(criteria=criteria, head_warmup_epochs=1), images, None, "cpu")
        views = run.views()
        for _ in range(run.order.steps_per_epoch):
            _, terms = run.advance(views)
        found.append((run, views, terms))
    (plain, views, terms), (added, other_views, other_terms) = found
    assert same(plain.method.state_dict(), added.method.state_dict())
    assert "e2mc/entropy" in other_terms and other_terms["loss"] == terms["loss"]
    plain.advance(views)
    added.advance(other_views)
    assert not same(plain.method.state_dict(), added.method.state_dict())


def test_a_warm_up_that_was_stopped_goes_on_exactly(images, tmp_path):
    spec = spec_of(head_warmup_epochs=1)
    pretrain(spec, images, tmp_path / "whole" / "checkpoint.pt")
    output = tmp_path / "stopped" / "checkpoint.pt"
    run = loop._Training(spec, images, None, "cpu")
    views = run.views()
    for _ in range(2):
        run.advance(views)
    run.save(output.with_name("checkpoint.pt.state"))
    pretrain(spec, images, output)
    assert same(weights(output), weights(tmp_path / "whole" / "checkpoint.pt"))


@pytest.mark.parametrize(("fresh", "warmup"), [(True, 0), (True, 1), (False, 0)])
def test_a_word_on_fresh_heads(fresh, warmup, images, tmp_path, capsys):
    pretrain(spec_of(epochs=1), images, tmp_path / "checkpoint.pt")
    start = load_checkpoint(tmp_path / "checkpoint.pt")
    provenance = {"own": "a" * 64, "fresh": ["projector"] if fresh else []}
    start = dataclasses.replace(start, provenance=provenance)
    capsys.readouterr()
    pretrain(spec_of(head_warmup_epochs=warmup), images, tmp_path / "next.pt", start=start)
    said = "weights of projector are fresh, and will pull" in capsys.readouterr().err
    assert said == (fresh and not warmup)
