"""SwAV against the official code's values, and its multi-crop, prototypes and queue."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2mc.criteria import E2MC
from e2mc.methods import create_method
from e2mc.methods.swav import sinkhorn, swapped_prediction_loss


@pytest.mark.parametrize("name", ["sinkhorn_b32_k30", "sinkhorn_extreme_b16_k24"])
@pytest.mark.parametrize("iterations", [0, 1, 3, 10])
def test_assignments_are_the_official_ones(golden, same_value, name, iterations):
    g = golden(name)
    q = sinkhorn(g["scores"].double(), epsilon=float(g["epsilon"]), iterations=iterations)
    same_value(q, g[f"f64_Q_it{iterations}"])


def test_assignments_converge_to_equal_use_of_all_prototypes():
    scores = torch.rand(40, 10, dtype=torch.float64) * 2 - 1
    q = sinkhorn(scores, iterations=200)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(q.sum(dim=0), torch.full((10,), 4.0, dtype=torch.float64))


def test_assignments_do_not_overflow_in_float32():
    scores = torch.rand(40, 10) * 2 - 1
    q = sinkhorn(scores, epsilon=0.02)  # exp(1 / 0.02) alone is more than float32 can hold
    torch.testing.assert_close(q, sinkhorn(scores.double(), epsilon=0.02).float())


def test_swapped_prediction_pairs_each_global_view_with_all_others():
    scores = torch.randn(5, 7, 4, dtype=torch.float64)
    targets = torch.randn(2, 7, 4, dtype=torch.float64).softmax(dim=2)
    pairs = [
        nn.functional.cross_entropy(scores[v] / 0.1, targets[i])
        for i in range(2)
        for v in range(5)
        if v != i
    ]
    torch.testing.assert_close(swapped_prediction_loss(scores, targets), sum(pairs) / len(pairs))


@pytest.mark.parametrize(
    "name", ["swav_only_b32_d16_k30", "swav_e2mc_b32_d16_k30", "swav_e2mc_b32_d16_k30_queue"]
)
def test_step_is_the_official_one(golden, same_value, same_gradient, features, name):
    g = golden(name)
    batch, with_queue = int(g["bs"]), "queue_before" in g
    method = create_method(
        "swav", features(16), dim=16, prototypes=30, queue_length=96 if with_queue else 0
    ).double()
    method.projector = nn.Identity()
    with torch.no_grad():
        method.prototypes.weight.copy_(g["W_prototypes_unnormalised"])
    if with_queue:
        method.queue.copy_(g["queue_before"])
        method.queue_filled.fill_(96)
    z = g["z"].double().requires_grad_()
    out = method(z.split(batch))
    same_value(out.loss.detach(), g["f64_swav_loss"])
    criterion = E2MC(float(g.get("ent_coeff", 0)), float(g.get("hypercov_coeff", 0)))
    loss = out.loss + criterion(*out.embeddings[:2]).loss
    loss.backward()
    same_value(loss.detach(), g["f64_loss"])
    same_gradient(z.grad, g["f64_grad_z"])
    same_gradient(method.prototypes.weight.grad, g["f64_grad_W"])
    if with_queue:
        same_gradient(method.queue[:, :batch], g["f64_queue_after_head"])
        assert torch.equal(method.queue[:, batch:], g["queue_before"].double()[:, :-batch])


def test_views_of_one_size_are_normalised_together(backbone):
    method = create_method("swav", backbone, hidden_dim=8, dim=4, prototypes=6)
    large = [torch.randn(8, 1, 8, 8), 3 + torch.randn(8, 1, 8, 8)]
    small = [torch.randn(8, 1, 6, 6) for _ in range(3)]
    batches = []
    backbone.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].shape))
    z = method(large + small).embeddings
    assert batches == [(16, 1, 8, 8), (24, 1, 6, 6)]
    features = torch.cat([backbone(torch.cat(large)), backbone(torch.cat(small))])
    torch.testing.assert_close(torch.cat(z), method.projector(features))


def test_prototypes_have_unit_rows_after_every_forward(backbone):
    method = create_method("swav", backbone, hidden_dim=8, dim=4, prototypes=6)
    nn.init.normal_(method.prototypes.weight, std=5)
    method([torch.randn(8, 1, 8, 8)] * 2)
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(6))


def test_queue_takes_part_only_once_it_is_full(features):
    plain, queued = (
        create_method("swav", features(4), dim=4, prototypes=6, queue_length=length)
        for length in (0, 20)
    )
    for method in (plain, queued):
        method.projector = nn.Identity()
    queued.prototypes = plain.prototypes
    batches = [[torch.randn(8, 4), torch.randn(8, 4)] for _ in range(4)]
    same = [bool(plain(views).loss == queued(views).loss) for views in batches]
    assert same == [True, True, True, False]  # 20 rows are full after three batches of 8
    newest = nn.functional.normalize(batches[3][0], dim=1)
    torch.testing.assert_close(queued.queue[0, :8], newest)
    oldest = nn.functional.normalize(batches[1][0][:4], dim=1)
    torch.testing.assert_close(queued.queue[0, 16:], oldest)


def test_queue_may_wait_longer_than_it_takes_to_fill(features):
    plain, waiting = (
        create_method("swav", features(4), dim=4, prototypes=6, queue_length=16, queue_after=after)
        for after in (0, 30)
    )
    for method in (plain, waiting):
        method.projector = nn.Identity()
    waiting.prototypes = plain.prototypes
    batches = [[torch.randn(8, 4), torch.randn(8, 4)] for _ in range(5)]
    same = [bool(plain(views).loss == waiting(views).loss) for views in batches]
    assert same == [True, True, False, False, True]  # full after two batches, waiting for four


def test_evaluation_leaves_the_queue_alone(backbone):
    options = {"hidden_dim": 8, "dim": 4, "prototypes": 6, "queue_length": 16}
    method = create_method("swav", backbone, **options).eval()
    method([torch.randn(8, 1, 8, 8)] * 2)
    assert method.queue_filled == 0 and not method.queue.any()


def test_a_resumed_queue_goes_on_as_if_never_stopped(backbone):
    options = {"hidden_dim": 8, "dim": 4, "prototypes": 6, "queue_length": 16}
    method = create_method("swav", backbone, **options)
    assert set(method.run_state) == {"queue", "queue_filled"}
    assert set(method.run_state) <= set(method.state_dict())
    for _ in range(2):
        method([torch.randn(8, 1, 8, 8), torch.randn(8, 1, 8, 8)])
    resumed = create_method("swav", type(backbone)(), **options)
    resumed.load_state_dict(method.state_dict())
    views = [torch.randn(8, 1, 8, 8), torch.randn(8, 1, 8, 8)]
    assert torch.equal(method(views).loss, resumed(views).loss)


def test_wants_its_global_views(backbone):
    method = create_method("swav", backbone, hidden_dim=8, dim=4, prototypes=6)
    with pytest.raises(ValueError, match="2 global views"):
        method([torch.randn(8, 1, 8, 8)])
