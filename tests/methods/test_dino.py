"""DINO's loss, centre and teacher against lightly and a plain transcription."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import DINOLoss

from e2mc.methods import create_method

PARAMS = {"hidden_dim": 16, "dim": 8, "prototypes": 12}


def crops(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    large = [torch.randn(6, 1, 8, 8, generator=generator) for _ in range(2)]
    return large + [torch.randn(6, 1, 6, 6, generator=generator) for _ in range(3)]


@pytest.fixture
def method(backbone):
    torch.manual_seed(3)
    method = create_method("dino", backbone, **PARAMS)
    with torch.no_grad():
        for parameter in method.teacher_projector.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return method


def scores_of(method, views) -> tuple[torch.Tensor, torch.Tensor]:
    """Student's scores of all views and the teacher's of the global ones."""
    student = torch.stack([method.prototypes(z) for z in method(views).embeddings])
    with torch.no_grad():
        features = method.teacher_backbone(torch.cat(views[:2]))
        teacher = method.teacher_prototypes(method.teacher_projector(features))
    return student, teacher.unflatten(0, (2, -1))


def test_three_steps_with_the_centre_are_lightlys(method):
    loss = DINOLoss(
        output_dim=12,
        warmup_teacher_temp=0.04,
        teacher_temp=0.04,
        warmup_teacher_temp_epochs=0,
        student_temp=0.1,
        center_momentum=0.9,
    )
    for seed in range(3):
        views = crops(seed)
        centre = method.centre.clone()
        student, teacher = scores_of(method, views)
        method.centre.copy_(centre)
        out = method(views)
        expected = loss(list(teacher), list(student), epoch=0)
        torch.testing.assert_close(out.loss, expected)
        torch.testing.assert_close(method.centre, loss.center.flatten())


def test_loss_is_the_equation(method):
    views = crops()
    method.centre.copy_(torch.randn(12))
    method.eval()
    student, teacher = scores_of(method, views)
    total, pairs = 0.0, 0
    for i in range(2):
        target = torch.softmax((teacher[i] - method.centre) / 0.04, dim=1)
        for v in range(5):
            if v != i:
                total -= (target * torch.log_softmax(student[v] / 0.1, dim=1)).sum(dim=1).mean()
                pairs += 1
    torch.testing.assert_close(method(views).loss, total / pairs)


def test_scores_are_cosines(method):
    z = torch.randn(5, 8)
    expected = torch.nn.functional.cosine_similarity(
        z[:, None], method.prototypes.weight[None], dim=2
    )
    torch.testing.assert_close(method.prototypes(z), expected)


def test_teacher_follows_the_student_without_gradient(method):
    out = method(crops())
    out.loss.backward()
    teacher = [p for n, p in method.named_parameters() if n.startswith("teacher_")]
    assert teacher and all(p.grad is None and not p.requires_grad for p in teacher)
    method.ema = method.ema_last = 0.25
    before = method.teacher_prototypes.weight.clone()
    with torch.no_grad():
        method.prototypes.weight += 1
    method.end_step(0.3)
    expected = 0.25 * before + 0.75 * method.prototypes.weight
    torch.testing.assert_close(method.teacher_prototypes.weight, expected)


def test_er_has_entropy_in_the_place_of_the_centre(backbone):
    method = create_method("dino", backbone, **PARAMS, objective="er")
    views = crops()
    out = method(views)
    assert not method.centre.any()
    student, _ = scores_of(method, views)
    mean = (student[:2] / 0.1).softmax(dim=2).mean(dim=1)
    entropy = -(mean * mean.log()).sum(dim=1).mean()
    torch.testing.assert_close(out.terms["er_entropy"], entropy, atol=1e-5, rtol=1e-5)


def test_wants_its_global_views(method):
    with pytest.raises(ValueError, match="2 global views"):
        method(crops()[:1])
