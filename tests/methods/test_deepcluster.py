"""DeepCluster-v2: k-means by hand, the memory bank, and what an epoch does."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from e2mc.methods import create_method
from e2mc.methods.deepcluster import spherical_kmeans

PARAMS = {"hidden_dim": 8, "dim": 4, "prototypes": (3, 2)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(points: torch.Tensor, k: int, iterations: int, seed: int) -> tuple:
    """The official loop, one point at a time."""
    centroids = [points[i] for i in torch.randperm(len(points), generator=generator(seed))[:k]]
    for step in range(iterations + 1):
        assigned = [max(range(k), key=lambda c: float(point @ centroids[c])) for point in points]
        if step == iterations:
            return torch.stack(centroids), torch.tensor(assigned)
        for c in range(k):
            mine = [point for point, a in zip(points, assigned, strict=True) if a == c]
            if mine:
                mean = sum(mine) / len(mine)
                centroids[c] = mean / mean.norm()


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_kmeans_is_the_loop_by_hand(iterations):
    points = normalize(torch.randn(40, 3, generator=generator(1), dtype=torch.float64))
    for seed in range(3):
        centroids, assignments = spherical_kmeans(
            points, 6, iterations=iterations, generator=generator(seed)
        )
        expected_centroids, expected = by_hand(points, 6, iterations, seed)
        torch.testing.assert_close(centroids, expected_centroids)
        assert torch.equal(assignments, expected)


def test_kmeans_finds_clusters_that_are_there():
    centres = torch.eye(3)
    truth = torch.arange(3).repeat_interleave(20)
    points = normalize(centres[truth] + 0.05 * torch.randn(60, 3, generator=generator()))
    best = max(
        (
            spherical_kmeans(points, 3, iterations=10, generator=generator(seed))
            for seed in range(8)
        ),
        key=lambda found: float((points * found[0][found[1]]).sum()),
    )
    assert len({tuple(sorted({int(a) for a in best[1][truth == c]})) for c in range(3)}) == 3


def test_kmeans_keeps_a_centroid_without_points():
    points = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    centroids, assignments = spherical_kmeans(points, 2, iterations=3, generator=generator())
    assert torch.equal(centroids, points[:2]) and not assignments.any()


def test_fewer_points_than_clusters():
    with pytest.raises(ValueError, match="wants 4 clusters of 3 points"):
        spherical_kmeans(torch.eye(3), 4, iterations=1, generator=generator())


def images(count: int = 10) -> list[torch.Tensor]:
    return [torch.randn(count, 1, 8, 8, generator=generator(s)) for s in (1, 2)]


def started(backbone, **params):
    torch.manual_seed(0)
    method = create_method("deepcluster", backbone, **PARAMS | params)
    method.begin_run(10)
    views = images()
    shares = [
        (torch.arange(6, 10), [v[6:] for v in views]),
        (torch.arange(6), [v[:6] for v in views]),
    ]
    method.begin_epoch(generator(), lambda: iter(shares))
    return method, views


def test_first_epoch_fills_the_bank_and_clusters_it(backbone):
    method, _ = started(backbone)
    norms = method.bank.norm(dim=2)
    torch.testing.assert_close(norms, torch.ones(2, 10))
    draws = generator()
    for head, k in enumerate((3, 2)):
        # each head clusters the bank of another view
        expected = spherical_kmeans(method.bank[head], k, iterations=10, generator=draws)
        assert torch.equal(getattr(method, f"centroids{head}"), expected[0])
        assert torch.equal(method.assignments[head], expected[1])


def test_later_epochs_do_not_fill_the_bank_again(backbone):
    method, _ = started(backbone)
    bank = method.bank.clone()

    def refused():
        raise AssertionError("a second pass over the images")

    method.begin_epoch(generator(1), refused)
    assert torch.equal(method.bank, bank)


def test_loss_predicts_the_clusters_of_the_images_shown(backbone):
    method, views = started(backbone)
    indices = torch.tensor([7, 2, 5])
    shown = [v[indices] for v in views] + [views[0][indices][..., :6, :6]]
    method.begin_step(indices)
    bank = method.bank.clone()
    out = method(shown)
    total = 0.0
    for head in range(2):
        centroids = getattr(method, f"centroids{head}")
        for z in out.embeddings:
            log_p = torch.log_softmax(normalize(z) @ centroids.T / 0.1, dim=1)
            total -= log_p[range(3), method.assignments[head][indices]].mean() / 6
    torch.testing.assert_close(out.loss, total)
    # then the bank remembers the new embeddings, of these images and global views alone
    for view in range(2):
        torch.testing.assert_close(method.bank[view, indices], normalize(out.embeddings[view]))
    others = [i for i in range(10) if i not in indices.tolist()]
    assert torch.equal(method.bank[:, others], bank[:, others])


def test_bank_and_assignments_belong_to_the_run(backbone):
    method, _ = started(backbone)
    assert method.run_state == ("bank", "assignments")
    assert set(method.run_state) <= set(method.state_dict())
    fresh = create_method("deepcluster", backbone, **PARAMS)
    assert set(method.state_dict()) - set(fresh.state_dict()) == set(method.run_state)


def test_er_adds_the_entropy_of_the_mean_prediction(backbone):
    method, views = started(backbone, objective="er")
    method.begin_step(torch.arange(10))
    out = method(views)
    entropies = []
    for head in range(2):
        for z in out.embeddings:
            logits = normalize(z) @ getattr(method, f"centroids{head}").T / 0.1
            p = logits.softmax(dim=1).mean(dim=0)
            entropies.append(-(p * p.log()).sum())
    expected = sum(entropies) / 4
    torch.testing.assert_close(out.terms["er_entropy"], expected, atol=1e-5, rtol=1e-5)


def test_batch_before_its_epoch(backbone):
    method = create_method("deepcluster", backbone, **PARAMS)
    with pytest.raises(RuntimeError, match="call begin_run, begin_epoch and begin_step"):
        method(images())
    with pytest.raises(ValueError, match="2 global views"):
        method(images()[:1])
