"""What a step of training tells the loop."""

from pathlib import Path

import pytest
import torch

from e2mc import code_hash
from e2mc.data.images import ImageSet, Splits
from e2mc.steps import train, training
from e2mc.study import Run, Study, load_study

STUDIES = Path(__file__).parents[2] / "studies"
RUN = Run("vicreg", "base", 0, None)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The identity that the loop is told for a study."""
    part = ImageSet(torch.zeros(20, 1, 28, 28, dtype=torch.uint8), torch.arange(20) % 2, ("a", "b"))
    Splits(part, part, part).save(tmp_path / "images.pt")
    found = []
    monkeypatch.setattr(training, "pretrain", lambda *_, **named: found.append(named["identity"]))

    def identity(study):
        train(study, RUN, None, tmp_path / "images.pt", tmp_path / "checkpoint.pt", "cpu")
        return found[-1]

    return identity


def with_split(seed):
    content = load_study(str(STUDIES / "fashion.yaml")).model_dump(mode="json")
    content["data"]["split_seed"] = seed
    return Study.model_validate(content)


def test_state_belongs_to_a_split_and_a_version_of_the_code(told, monkeypatch):
    before = told(with_split(0))
    assert told(with_split(0)) == before
    assert told(with_split(1)) != before
    monkeypatch.setattr(code_hash.Code, "hash", lambda code: f"edited {code.stage}")
    assert told(with_split(0)) != before
