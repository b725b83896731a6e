from dataclasses import replace

import pytest
import torch

from e2mc.errors import InputError
from e2mc.training import batches
from e2mc.training.batches import BatchOrder, smallest_part
from e2mc.training.spec import TrainingError

IMAGES = 72


def on_ranks(monkeypatch, world, spec):
    """The whole run as each of some ranks sees it."""
    monkeypatch.setattr(batches, "world_size", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(batches, "rank", lambda rank=rank: rank)
        order = BatchOrder(spec, IMAGES)
        yield order, list(order.from_step(0))


def test_every_image_is_taken_once_an_epoch(spec):
    order = BatchOrder(replace(spec, drop_last=False), IMAGES)
    assert (order.steps_per_epoch, order.total_steps) == (5, 10)
    taken = [batch.local_indices for batch in order.from_step(0)]
    assert [len(indices) for indices in taken] == [16, 16, 16, 16, 8] * 2
    epochs = [torch.cat(taken[:5]), torch.cat(taken[5:])]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(IMAGES))
    assert not torch.equal(*epochs)


def test_the_last_smaller_batch_is_left_out(spec):
    order = BatchOrder(spec, IMAGES)
    assert (order.steps_per_epoch, order.total_steps) == (4, 8)
    assert [len(batch.indices) for batch in order.from_step(0)] == [16] * 8


def test_length_in_steps(spec):
    order = BatchOrder(replace(spec, epochs=None, steps=6), IMAGES)
    assert (order.steps_per_epoch, order.total_steps, order.epochs) == (4, 6, 2)
    of_epochs = list(BatchOrder(spec, IMAGES).from_step(0))[:6]
    for expected, found in zip(of_epochs, order.from_step(0), strict=True):
        assert torch.equal(expected.indices, found.indices) and expected.seed == found.seed


def test_a_warm_up_as_long_as_the_steps_is_refused(spec):
    """Else the backbone would not learn, without a word."""
    BatchOrder(replace(spec, epochs=None, steps=5, head_warmup_epochs=1), IMAGES)
    with pytest.raises(InputError, match="some of the 4 steps .* found 1, which take 4 steps"):
        BatchOrder(replace(spec, epochs=None, steps=4, head_warmup_epochs=1), IMAGES)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_a_resumed_run_takes_what_the_whole_one_takes(spec, first):
    order = BatchOrder(spec, IMAGES)
    whole, rest = list(order.from_step(0))[first:], list(order.from_step(first))
    assert len(rest) == order.total_steps - first
    for expected, found in zip(whole, rest, strict=True):
        assert torch.equal(expected.indices, found.indices) and expected.seed == found.seed


def test_seeds_differ_between_positions_and_runs(spec):
    one, other = (BatchOrder(replace(spec, seed=seed), IMAGES) for seed in (0, 1))
    seeds = [batch.seed for order in (one, other) for batch in order.from_step(0)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_ranks_and_micro_batches_share_a_batch(spec, monkeypatch, micro_batches):
    whole = list(BatchOrder(spec, IMAGES).from_step(0))
    seen = [[] for _ in whole]
    for order, found in on_ranks(monkeypatch, 2, replace(spec, micro_batches=micro_batches)):
        assert order.part == 8 // micro_batches
        for number, batch in enumerate(found):
            seen[number // micro_batches].append(batch.local_indices)
            assert batch.seed == whole[number // micro_batches].seed
    for parts, batch in zip(seen, whole, strict=True):
        assert torch.equal(torch.cat(parts), batch.indices)


@pytest.mark.parametrize("split", [{"micro_batches": 5}, {"augmentation_streams": 5}])
def test_the_last_batch_gets_equal_parts_with_the_first_images(spec, split):
    spec = replace(spec, batch_size=20, drop_last=False, **split)
    micro_batches = list(BatchOrder(spec, IMAGES).from_step(0))
    whole = [batch.indices for batch in micro_batches][:: spec.micro_batches]
    assert [len(indices) for indices in whole] == [20, 20, 20, 15] * 2
    for epoch in (whole[:4], whole[4:]):
        seen = torch.cat(epoch)
        assert torch.equal(seen[:IMAGES].sort().values, torch.arange(IMAGES))
        assert torch.equal(seen[IMAGES:], seen[:3])
    sizes = [len(batch.local_indices) for batch in micro_batches]
    assert smallest_part(spec, IMAGES) == min(sizes)


def test_all_images_are_shared_by_the_ranks(spec, monkeypatch):
    shares = [
        torch.cat([batch.local_indices for batch in order.all_images(0)])
        for order, _ in on_ranks(monkeypatch, 3, replace(spec, batch_size=18))
    ]
    assert torch.equal(torch.cat(shares).sort().values, torch.arange(IMAGES))
    assert {len(share) for share in shares} == {24}


def test_batch_that_cannot_be_shared_equally(spec, monkeypatch):
    monkeypatch.setattr(batches, "world_size", lambda: 3)
    message = r"a batch of 16 images .* 3 processes .* multiple of 3$"
    with pytest.raises(TrainingError, match=message):
        BatchOrder(spec, IMAGES)


def test_images_that_do_not_fill_a_batch(spec):
    with pytest.raises(TrainingError, match="72 images do not fill one batch of 100"):
        BatchOrder(replace(spec, batch_size=100), IMAGES)
