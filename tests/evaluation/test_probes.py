from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, PlainView, ViewRecipe
from e2mc.evaluation.epochs import EpochState
from e2mc.evaluation.features import CachedFeatures, ViewFeatures, extract_features
from e2mc.evaluation.heads import LinearProtocol, StackedHeads, schedule_factor
from e2mc.evaluation.probes import HeldOut, Probe, linear_probe, train_probes
from e2mc.progress import Interrupted


def blobs(count: int, classes: int = 4, dim: int = 6, seed: int = 0, spread: float = 1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 1.5 * torch.eye(dim)[:classes]
    return centres[labels] + spread * torch.randn(count, dim, generator=generator), labels


def fit(features, labels, subsets, seeds, protocol):
    """Heads after all epochs, from a stream in small pieces."""
    stream = CachedFeatures(features)
    heads = StackedHeads(features.shape[1], labels, subsets, seeds, 4, protocol)
    for epoch in range(protocol.epochs):
        for values, indices in stream.epoch(epoch, torch.cat(subsets).unique()):
            for piece, at in zip(values.split(7), indices.split(7)):
                heads.consume(piece, at)
        heads.end_epoch()
    return heads


def test_steps_equal_autograd_and_torch_sgd():
    features, labels = blobs(50)
    protocol = LinearProtocol(epochs=4, batch_size=16, learning_rates=(0.5,), weight_decay=0.01)
    subset = torch.arange(0, 50, 2)
    heads = fit(features, labels, [subset], [3], protocol)

    linear = nn.Linear(6, 4)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        linear.weight.copy_(0.01 * torch.randn(6, 4, generator=generator).T)
        linear.bias.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.5 * protocol.factor(epoch)
        order = next(CachedFeatures(features).epoch(epoch, subset))[1]
        for batch in order.split(16):  # 16 and 9: the smaller last batch counts
            optimizer.zero_grad()
            nn.functional.cross_entropy(linear(features[batch]), labels[batch]).backward()
            optimizer.step()
    torch.testing.assert_close(heads.weight[0, :-1, :, 0], linear.weight.T.detach())
    torch.testing.assert_close(heads.weight[0, -1, :, 0], linear.bias.detach())


def test_stacked_heads_equal_single_heads():
    features, labels = blobs(120)
    subsets = [torch.randperm(120, generator=torch.Generator().manual_seed(s))[:50] for s in (0, 1)]
    rates = (0.1, 1.0)
    protocol = LinearProtocol(epochs=3, batch_size=16, learning_rates=rates)
    together = fit(features, labels, subsets, [5, 6], protocol)
    for i, subset in enumerate(subsets):
        for j, rate in enumerate(rates):
            alone = LinearProtocol(epochs=3, batch_size=16, learning_rates=(rate,))

            class Order:
                """The subset in the order in which the stack saw it."""

                dim, positions = 6, 1

                def epoch(self, epoch, indices, subset=subset):
                    everything = torch.cat(subsets).unique()
                    order = next(CachedFeatures(features).epoch(epoch, everything))[1]
                    order = order[torch.isin(order, subset)]
                    yield features[order], order

            head = StackedHeads(6, labels, [subset], [5 + i], 4, alone)
            for epoch in range(3):
                for values, indices in Order().epoch(epoch, subset):
                    head.consume(values, indices)
                head.end_epoch()
            torch.testing.assert_close(together.weight[i, :, :, j], head.weight[0, :, :, 0])


def test_probe_reaches_the_accuracy_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    features, labels = blobs(2000, spread=1.2)
    held_out, test = blobs(1000, seed=1, spread=1.2), blobs(1000, seed=2, spread=1.2)
    protocol = LinearProtocol(epochs=30, batch_size=64, learning_rates=(0.01, 0.1, 1.0))
    scores, details = linear_probe(
        CachedFeatures(features),
        labels,
        {0: torch.arange(2000)},
        HeldOut(test, held_out),
        classes=4,
        protocol=protocol,
    )
    oracle = LogisticRegression().fit(features.numpy(), labels.numpy())
    expected = 100 * oracle.score(test[0].numpy(), test[1].numpy())
    [last] = [s for s in scores if s["selection"] == "last" and s["split"] == "test"]
    assert last["value"] == pytest.approx(expected, abs=1.0)
    assert details["labels"] == 2000
    assert len(details["validation_top1_by_rate"]) == 3


def test_scores_and_details_of_a_probe():
    features, labels = blobs(300, classes=6, dim=8)
    sets = {seed: torch.arange(seed, 300, 5) for seed in (2, 4)}
    protocol = LinearProtocol(
        epochs=5, batch_size=32, learning_rates=(1e-9, 1e-8, 1e-7), validate_every=2
    )
    scores, details = linear_probe(
        CachedFeatures(features),
        labels,
        sets,
        HeldOut((features, labels), (features, labels)),
        classes=6,
        protocol=protocol,
        features="whitened",
    )
    keys = {(s["metric"], s["selection"], s["split"], s["probe_seed"]) for s in scores}
    assert len(scores) == len(keys) == 2 * 2 * 2 * 2
    assert all(s["features"] == "whitened" and 0 <= s["value"] <= 100 for s in scores)
    # at such rates nothing is learned, every rate is equally good, and the middle one is taken
    assert details["learning_rate"] == {"2": 1e-8, "4": 1e-8}
    assert details["at_edge_of_grid"] == []
    assert set(details["best_epoch"].values()) <= {2, 4, 5}


def test_rate_at_the_edge_is_recorded():
    features, labels = blobs(400)
    protocol = LinearProtocol(epochs=3, learning_rates=(1e-9, 1e-8, 0.3), batch_size=32)
    _, details = linear_probe(
        CachedFeatures(features),
        labels,
        {7: torch.arange(400)},
        HeldOut((features, labels), (features, labels)),
        classes=4,
        protocol=protocol,
    )
    assert details["at_edge_of_grid"] == [7]


def test_best_epoch_is_scored_with_its_own_weights():
    features, labels = blobs(400, spread=2.0)
    held_out = blobs(400, seed=1, spread=2.0)
    protocol = LinearProtocol(
        epochs=12, batch_size=8, learning_rates=(30.0,), schedule="step", steps=()
    )
    scores, details = linear_probe(
        CachedFeatures(features),
        labels,
        {0: torch.arange(400)},
        HeldOut(held_out, held_out),
        classes=4,
        protocol=protocol,
    )
    value = {(s["selection"], s["split"]): s["value"] for s in scores}
    assert value["best", "test"] == value["best", "validation"] > value["last", "test"]
    assert details["best_epoch"]["0"] < 12


def test_subsets_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"one length .* found \[2, 3\]"):
        StackedHeads(
            2,
            torch.zeros(9).long(),
            [torch.arange(2), torch.arange(3)],
            [0, 1],
            2,
            LinearProtocol(),
        )


def test_divergence_is_an_error():
    features, labels = blobs(100)
    with pytest.raises(ValueError, match="diverged"):
        linear_probe(
            CachedFeatures(features * 1e30),
            labels,
            {0: torch.arange(100)},
            HeldOut((features, labels), (features, labels)),
            classes=4,
            protocol=LinearProtocol(epochs=3, learning_rates=(1e20,)),
        )


def test_schedules():
    assert schedule_factor("cosine", 0, 10, (), 0.1) == 1
    assert schedule_factor("cosine", 5, 10, (), 0.1) == pytest.approx(0.5)
    steps = [schedule_factor("step", epoch, 20, (12, 16), 0.2) for epoch in (11, 12, 16)]
    assert steps == pytest.approx([1, 0.2, 0.04])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rates": ()}, "one or more positive"),
        ({"learning_rates": (0.1, -1.0)}, "one or more positive"),
        ({"learning_rates": (1.0, 0.1)}, "must rise"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"schedule": "linear"}, "schedule"),
        ({"steps": (3, 6)}, r"steps is \(3, 6\), but schedule cosine has no steps: set schedule"),
        ({"gamma": 0.5}, "gamma is 0.5, but schedule cosine"),
    ],
)
def test_protocol_ranges(change, message):
    with pytest.raises(ValueError, match=message):
        LinearProtocol(**change)


@pytest.mark.parametrize("positions", [1, 3])
def test_batch_norm_heads_equal_autograd_and_torch_sgd(positions):
    features, labels = blobs(50)
    features = 3 * features + 5
    rates = (0.05, 0.4)
    settings = {"epochs": 4, "batch_size": 16, "weight_decay": 0.01, "batch_norm": True}
    protocol = LinearProtocol(learning_rates=rates, **settings)
    subset = torch.arange(0, 50, 2)
    heads = StackedHeads(6, labels, [subset], [3], 4, protocol, positions)
    for epoch in range(4):
        for values, indices in CachedFeatures(features).epoch(epoch, subset):
            heads.consume(values, indices)
        heads.end_epoch()
    found = heads.evaluation_weight()[0]

    for j, rate in enumerate(rates):
        norm = nn.BatchNorm1d(6 // positions)
        linear = nn.Linear(6, 4)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(3)
            linear.weight.copy_(0.01 * torch.randn(6, 4, generator=generator).T)
            linear.bias.zero_()

        def model(x, norm=norm, linear=linear):
            return linear(norm(x.unflatten(1, (-1, positions))).flatten(1))

        parameters = [*norm.parameters(), *linear.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=0.01)
        for epoch in range(4):
            optimizer.param_groups[0]["lr"] = rate * protocol.factor(epoch)
            order = next(CachedFeatures(features).epoch(epoch, subset))[1]
            for batch in order.split(16):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()
                optimizer.step()
        norm.eval()
        expected = model(features).detach()
        ours = features @ found[:-1, :, j] + found[-1, :, j]
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def overlapping():
    """Images whose features are noisy, 1 in 10 of which belong to a small subset."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 4
    pixels = torch.randint(0, 150, (1200, 1, 6, 6), generator=generator)
    for label in range(4):
        rows = slice(None, 3) if label < 2 else slice(3, None)
        columns = slice(None, 3) if label % 2 else slice(3, None)
        pixels[(labels == label).nonzero().flatten(), :, rows, columns] += 25
    pixels = pixels.to(torch.uint8)
    names = tuple("abcd")
    return (
        ImageSet(pixels[:800], labels[:800], names),
        ImageSet(pixels[800:], labels[800:], names),
    )


class Pixels(nn.Module):
    feature_dim = 36

    def forward(self, views):
        return views.flatten(1)


def streamed(train, test, subsets, shared, seed=0, **options):
    """Accuracy after the last epoch of one set of heads for each subset."""
    recipe = ViewRecipe(6, crop_scale=(0.8, 1.0), flip=0.0)
    normalisation = Normalisation((0.4,), (0.2,))
    stream = ViewFeatures(
        Pixels(), train, recipe=recipe, normalisation=normalisation, batch_size=100, seed=seed
    )
    values = extract_features(Pixels(), test, view=PlainView(6), normalisation=normalisation)
    values = values, test.labels
    held_out = {"raw": HeldOut(values, values)}
    protocol = LinearProtocol(epochs=10, batch_size=32, learning_rates=(0.02, 0.1))
    probes = [Probe(36, train.labels, subset, 4, protocol) for subset in subsets]
    for together in [probes] if shared else [[probe] for probe in probes]:
        train_probes(stream, together, held_out, **options)
    return [
        [
            s["value"]
            for s in probe.scores(held_out["raw"])[0]
            if (s["selection"], s["split"]) == ("last", "test")
        ]
        for probe in probes
    ]


def test_one_pass_for_all_heads_equals_a_pass_for_each(overlapping):
    train, test = overlapping
    subsets = [{0: torch.arange(0, 800, 10), 1: torch.arange(5, 800, 10)}, {0: torch.arange(800)}]

    def scores(shared, seed):
        found = streamed(train, test, subsets, shared, seed)
        return torch.tensor([value for probe in found for value in probe])

    runs = {
        shared: torch.stack([scores(shared, seed) for seed in range(4)]) for shared in (True, False)
    }
    means = {shared: values.mean(dim=0) for shared, values in runs.items()}
    assert means[True].min() > 40 and means[True][-1] > means[True][0] + 3
    spread = torch.cat(list(runs.values())).std(dim=0)
    # four runs each: the difference of their means, in standard errors
    errors = (means[True] - means[False]) / (spread * (2 / 4) ** 0.5)
    assert errors.abs().max() < 3


def test_heads_that_were_stopped_go_on_exactly(overlapping, tmp_path, monkeypatch):
    train, test = overlapping
    subsets = [{0: torch.arange(0, 800, 10)}, {0: torch.arange(800)}]
    whole = streamed(train, test, subsets, True)
    state = EpochState(tmp_path / "linear.state", "these heads")
    # 4 batches of test images, then 8 pieces per epoch
    pieces = iter(range(1000))
    monkeypatch.setattr(
        "e2mc.evaluation.epochs.stop_requested", lambda: next(pieces) == 4 + 8 * 4 + 3
    )
    with pytest.raises(Interrupted, match="goes on from its last state"):
        streamed(train, test, subsets, True, state=state)
    assert state.load()["epoch"] == 4
    assert streamed(train, test, subsets, True, state=state) == whole
    assert EpochState(state.path, "other heads").load() is None


def test_without_validation_the_best_epoch_is_that_on_the_test_images():
    features, labels = blobs(400, spread=2.0)
    held_out = blobs(400, seed=1, spread=2.0)
    protocol = LinearProtocol(
        epochs=12, batch_size=8, learning_rates=(30.0,), schedule="step", steps=()
    )
    arguments = {"classes": 4, "protocol": protocol}
    subset = {0: torch.arange(400)}
    scores, details = linear_probe(
        CachedFeatures(features), labels, subset, HeldOut(held_out, None), **arguments
    )
    value = {(s["selection"], s["split"]): s["value"] for s in scores}
    assert set(value) == {("last", "test"), ("best", "test")}
    assert value["best", "test"] > value["last", "test"]
    assert details["best_epoch_chosen_on"] == "test"
    assert len(details["test_top1_by_rate"]) == 1 and "validation_top1_by_rate" not in details


def test_several_learning_rates_are_never_chosen_on_the_test_images():
    features, labels = blobs(40)
    protocol = LinearProtocol(epochs=1, learning_rates=(0.1, 1.0))
    with pytest.raises(ValueError, match="2 learning rates would be chosen on the test images"):
        linear_probe(
            CachedFeatures(features),
            labels,
            {0: torch.arange(40)},
            HeldOut((features, labels), None),
            classes=4,
            protocol=protocol,
        )
