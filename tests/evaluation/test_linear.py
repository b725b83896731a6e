from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.evaluation.features import CachedFeatures
from e2mc.evaluation.linear import LinearProtocol, StackedHeads, linear_probe, schedule_factor


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

                dim = 6

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
        validation=held_out,
        test=test,
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
        validation=(features, labels),
        test=(features, labels),
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
        validation=(features, labels),
        test=(features, labels),
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
        validation=held_out,
        test=held_out,
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
            validation=(features, labels),
            test=(features, labels),
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
    ],
)
def test_protocol_ranges(change, message):
    with pytest.raises(ValueError, match=message):
        LinearProtocol(**change)
