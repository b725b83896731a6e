"""First weights on the shipped bases: what one epoch with them does to entropy and base loss."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from e2mc.checkpoints.checkpoint import load_checkpoint
from e2mc.criteria import CRITERIA, E2MC, create_criterion
from e2mc.criteria.weights import balanced_weights
from e2mc.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
from e2mc.data.images import ImageSet
from e2mc.data.subsets import stratified_split
from e2mc.errors import InputError
from e2mc.methods import Method
from e2mc.study import Run, load_study
from e2mc.training import loop
from e2mc.training.first_weights import first_weights
from e2mc.training.spec import Component

ROOT = Path(__file__).parents[2]
# at most how much of its absolute value the base loss may rise; docs/first-weights.md says it
RISE = 0.05


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> ImageSet:
    """The images that the default study continues on."""
    study = load_study(str(ROOT / "studies/fashion.yaml"))
    whole, _ = load_fashion_mnist(fetch_fashion_mnist(None, tmp_path_factory.mktemp("download")))
    rest, _ = stratified_split(whole.labels, study.data.validation, study.data.split_seed)
    training = whole.subset(rest)
    return training.subset(stratified_split(training.labels, 16384, seed=0)[1])


def measured(method: Method, batches: list[list[Tensor]]) -> tuple[float, float]:
    """Mean base loss and entropy of these batches; the method stays as it is."""
    method, criterion = copy.deepcopy(method), E2MC()
    with torch.no_grad():
        outputs = [method(views) for views in batches]
        entropies = [
            criterion(*output.embeddings[: method.global_views]).terms["entropy"]
            for output in outputs
        ]
    loss = torch.stack([output.loss for output in outputs]).mean()
    return loss.item(), torch.stack(entropies).mean().item()


def advanced(run: loop._Training, views: Iterator) -> loop._Training:
    while run.step < run.order.total_steps:
        run.advance(views)
    return run


@pytest.mark.parametrize(
    "base",
    [
        "simsiam",
        *(pytest.param(b, marks=pytest.mark.slow) for b in ("vicreg", "swav_short", "swav_long")),
    ],
)
def test_one_epoch_closes_half_of_the_distance_to_uniform_entropy(base, images):
    study = load_study(str(ROOT / "studies/fashion.yaml"))
    spec = study.training_spec(Run(base, "continued", 0, 0))
    start = load_checkpoint(ROOT / f"checkpoints/fashion/{base}-base0.pt")
    untouched = replace(spec, criteria=(Component("e2mc", {}),))
    weights = first_weights(untouched, images, start)
    spec = replace(spec, criteria=(Component("e2mc", weights),))
    run = loop._Training(spec, images, start, "cpu")
    shown = run.views()
    batches = [next(shown)[1] for _ in range(8)]
    loss, entropy = measured(run.method, batches)
    loss_after, entropy_after = measured(advanced(run, run.views()).method, batches)
    normal = torch.randn(spec.batch_size, 512, generator=torch.Generator().manual_seed(0))
    uniform = E2MC()(normal).terms["entropy"].item()  # of as many values
    assert entropy_after - entropy > 0.5 * (uniform - entropy)
    assert loss_after - loss < RISE * abs(loss)


def test_control_has_no_weights_of_its_own():
    z1, z2 = torch.randn(2, 32, 6, requires_grad=True)
    weighted = create_criterion("random-direction").weighted_terms((z1, z2))
    terms = {name: term for name, (_, term) in weighted.items()}
    with pytest.raises(InputError, match="entropy has no gradient"):
        balanced_weights(terms, z1.square().mean(), [z1])


@pytest.mark.parametrize("name", [name for name in CRITERIA if name != "random-direction"])
def test_examples_in_the_docs_run_for_every_criterion(name, capsys):
    text = (ROOT / "docs/first-weights.md").read_text()
    own, general = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 6)
    z1, z2 = model(torch.randn(32, 8)), model(torch.randn(32, 8))
    names = {"E2MC": E2MC, "model": model, "z1": z1, "z2": z2, "loss": (z1 - z2).square().mean()}
    exec(own, names)
    assert set(names["weights"]) == {"entropy_weight", "covariance_weight"}
    criterion = create_criterion(name)
    state = copy.deepcopy(criterion.state_dict())
    exec(general, names | {"criterion": criterion}, found := {})
    assert set(found["weights"]) == set(criterion(z1, z2).terms)
    assert all(weight > 0 for weight in found["weights"].values())
    torch.testing.assert_close(criterion.state_dict(), state)
