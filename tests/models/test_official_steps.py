"""Training steps of the loop against the official steps, from the same released file and views.

The official steps are written down again here, on the official models of tests/official.py.
"""

import math
from types import SimpleNamespace

import official
import pytest
import torch
import torch.nn.functional as F

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.checkpoints.released import convert_released
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.models import BACKBONES
from e2mc.models.torchvision_backbone import PooledNetwork
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.training.loop import pretrain
from e2mc.training.spec import Component, TrainingSpec

NOMINAL = 12  # the batch size that divides the covariance; batches are smaller
METHODS = ("vicreg", "swav", "simsiam")


class FixedViews:
    """An image source whose views are known beforehand, one list per step."""

    channels = 3

    def __init__(self, steps):
        self.steps = steps

    def __len__(self):
        return len(self.steps) * len(self.steps[0][0])

    def views(self, batches, recipes, normalisation, device):
        for _, views in zip(batches, self.steps, strict=False):
            yield views


def e2mc(z, to_cube, epsilon):
    """Entropy (mean over the columns) and covariance of one view."""
    u = to_cube(z)
    u = u - u.mean(dim=0)
    n = len(u)
    m = round(math.sqrt(n))
    ordered = u.sort(dim=0).values
    spacings = (ordered[m:] - ordered[: n - m]) * (n + 1) / m
    entropy = torch.log(spacings + epsilon).sum(dim=0) / (n - m)
    return entropy.mean(), off_diagonal(u.T @ u / (NOMINAL - 1)) / u.shape[1]


def off_diagonal(c):
    return c.pow(2).sum() - c.diagonal().pow(2).sum()


def normal_cdf(z):
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))


def add_e2mc(loss, z1, z2, to_cube, epsilon):
    (h1, c1), (h2, c2) = e2mc(z1, to_cube, epsilon), e2mc(z2, to_cube, epsilon)
    return loss + 1.0 * (c1 + c2) - 10.0 * (h1 / 2 + h2 / 2)


def vicreg_loss(model, views):
    x, y = (model(view) for view in views)
    loss = 25 * F.mse_loss(x, y)
    loss = add_e2mc(loss, x, y, torch.sigmoid, 1e-7)
    for z in (x, y):
        z = z - z.mean(dim=0)
        loss = loss + 25 * F.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() / 2
        loss = loss + off_diagonal(z.T @ z / (NOMINAL - 1)) / z.shape[1]
    return loss


def assignments(scores):
    q = torch.exp(scores / 0.05).T
    k, b = q.shape
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(dim=1, keepdim=True) / k
        q = q / q.sum(dim=0, keepdim=True) / b
    return (q * b).T


def swav_loss(model, views):
    with torch.no_grad():
        model.prototypes.weight.copy_(F.normalize(model.prototypes.weight, dim=1))
    features = torch.cat([model(torch.cat(views[:2])), model(torch.cat(views[2:]))])
    z = model.projection_head(features)
    scores = model.prototypes(F.normalize(z, dim=1)).chunk(len(views))
    z = z.chunk(len(views))
    loss = 0
    for i in (0, 1):
        q = assignments(scores[i].detach())
        others = [v for v in range(len(views)) if v != i]
        for v in others:
            log_p = F.log_softmax(scores[v] / 0.1, dim=1)
            loss = loss - (q * log_p).sum(dim=1).mean() / len(others) / 2
    return add_e2mc(loss, z[0], z[1], normal_cdf, 2**-23)


def simsiam_loss(model, views):
    (p1, z1), (p2, z2) = (model(view) for view in views)
    loss = -F.cosine_similarity(p1, z2.detach()).mean() / 2
    loss = loss - F.cosine_similarity(p2, z1.detach()).mean() / 2
    return add_e2mc(loss, z1, z2, normal_cdf, 2**-23)


class LARC:
    """apex's LARC without clipping around SGD with momentum."""

    def __init__(self, params, lr, weight_decay):
        self.params, self.weight_decay = list(params), weight_decay
        self.sgd = torch.optim.SGD(self.params, lr, momentum=0.9)

    def step(self):
        for p in self.params:
            weight_norm, grad_norm = p.detach().norm(), p.grad.norm()
            if weight_norm != 0 and grad_norm != 0:
                rate = 0.001 * weight_norm / (grad_norm + self.weight_decay * weight_norm + 1e-8)
                p.grad = (p.grad + self.weight_decay * p.detach()) * rate
        self.sgd.step()

    def zero_grad(self):
        self.sgd.zero_grad()


@pytest.fixture
def setting(tmp_path):
    """A function: method and sizes -> official model, its file, its optimizer, ours."""

    def make(name, width, layers, heads, backbone):
        path = tmp_path / f"{name}.pth"
        if name == "vicreg":
            model = official.VICReg(width, layers, heads["expander"])
            optimizer = official.save_vicreg(path, model)
            optimizer.param_groups[0]["lr"] = 0.4
            ours = OptimizerSpec("lars", lr=0.4, weight_decay=1e-6)
            params, loss = heads | {"batch_size": NOMINAL}, vicreg_loss
        elif name == "swav":
            sizes = (heads["hidden_dim"], heads["dim"], heads["prototypes"])
            model = official.ResNet(width, layers, head=sizes)
            official.save_swav(path, model)
            optimizer = LARC(model.parameters(), 0.6, 1e-6)
            ours = OptimizerSpec("larc-sgd", lr=0.6, weight_decay=1e-6)
            params, loss = heads, swav_loss
        else:
            model = official.SimSiam(width, layers, heads["dim"], heads["predictor_hidden_dim"])
            official.save_simsiam(path, model)
            groups = [
                {"params": [p for p in model.encoder.parameters() if p.requires_grad]},
                {"params": model.predictor.parameters(), "lr": 0.1},
            ]
            optimizer = torch.optim.SGD(groups, 0.02, momentum=0.9, weight_decay=1e-4)
            ours = OptimizerSpec("sgd", lr=0.02, weight_decay=1e-4, group_lr={"predictor": 0.1})
            params, loss = heads, simsiam_loss
        convert_released(
            path,
            name,
            backbone=backbone,
            method_params=params,
            epochs=None if name != "swav" else 400,
        ).save(tmp_path / "converted.pt")
        return SimpleNamespace(
            name=name,
            backbone=backbone,
            model=model,
            optimizer=optimizer,
            loss=loss,
            ours=ours,
            params=params,
            path=path,
            save=getattr(official, f"save_{name}"),
            start=load_checkpoint(tmp_path / "converted.pt"),
        )

    return make


def take_steps(made, steps, tmp_path):
    """Our weights and the official ones after the same steps, under our names."""
    made.model.train()
    for views in steps:
        made.optimizer.zero_grad()
        made.loss(made.model, views).backward()
        made.optimizer.step()
    made.save(made.path, made.model)
    epochs = 400 if made.name == "swav" else None
    expected = convert_released(
        made.path,
        made.name,
        backbone=made.backbone,
        method_params=made.params,
        epochs=epochs,
    ).model
    epsilon = {"epsilon": 1e-7, "mapping": "logistic"} if made.name == "vicreg" else {}
    spec = TrainingSpec(
        backbone=made.backbone,
        method=Component(made.name, made.params),
        views=(ViewRecipe(size=steps[0][0].shape[-1], count=len(steps[0])),),
        normalisation=Normalisation((0.5,) * 3, (0.25,) * 3),
        optimizer=made.ours,
        schedule=ScheduleSpec("constant"),
        epochs=1,
        batch_size=len(steps[0][0]),
        criteria=(Component("e2mc", {"batch_size": NOMINAL} | epsilon),),
        restore_optimizer=made.name == "vicreg",
    )
    pretrain(spec, FixedViews(steps), tmp_path / "ours.pt", start=made.start)
    return load_checkpoint(tmp_path / "ours.pt").model, expected


def random_steps(name, count, batch, large, small):
    sizes = [large] * 2 + ([small] * 6 if name == "swav" else [])
    return [[torch.randn(batch, 3, size, size) for size in sizes] for _ in range(count)]


@pytest.fixture
def dtype(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


HEADS = {
    "vicreg": {"expander": (24, 24, 16)},
    "swav": {"hidden_dim": 24, "dim": 8, "prototypes": 12},
    "simsiam": {"dim": 24, "predictor_hidden_dim": 12},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64], indirect=True)
def test_two_steps_in_float64(name, setting, tmp_path, monkeypatch, dtype):
    layers = (1, 1, 1, 1)
    monkeypatch.setitem(
        BACKBONES, "narrow", lambda channels: PooledNetwork(official.ResNet(8, layers))
    )
    torch.manual_seed(3)
    made = setting(name, 8, layers, HEADS[name], "narrow")
    ours, expected = take_steps(made, random_steps(name, 2, 10, 64, 32), tmp_path)
    moved = 0
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-8, atol=1e-10, msg=key)
        moved += not torch.equal(value, made.start.model[key])
    assert moved > 0.9 * len(expected)


REAL_HEADS = {
    # the papers' 8192 in float64 would take 16 GB of memory
    "vicreg": {"expander": (2048, 2048, 2048)},
    "swav": {"hidden_dim": 2048, "dim": 128, "prototypes": 3000},
    "simsiam": {"dim": 2048, "predictor_hidden_dim": 512},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64], indirect=True)
def test_a_step_of_resnet50_at_224_pixels(name, dtype, setting, tmp_path):
    """In float64, since a float32 step of a deep network on six images is off by some tenths."""
    torch.manual_seed(3)
    made = setting(name, 64, (3, 4, 6, 3), REAL_HEADS[name], "resnet50")
    ours, expected = take_steps(made, random_steps(name, 1, 6, 224, 96), tmp_path)
    wrong, moved = 0.0, 0.0
    for key, value in expected.items():
        if value.is_floating_point():
            wrong += float((ours[key] - value).square().sum())
            moved += float((value - made.start.model[key]).square().sum())
    assert moved > 0
    assert math.sqrt(wrong / moved) < 1e-7
