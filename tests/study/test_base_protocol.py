"""Protocols of a column that differ from base to base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from e2mc.evaluation.heads import LinearProtocol
from e2mc.steps.evaluation import decided_by
from e2mc.study import Run, Study, load_study


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


def with_changes(column, changes, study="fashion"):
    """The study, its column changed on some bases."""
    # through JSON, or what shares an anchor would change together
    content = json.loads(json.dumps(yaml.safe_load(Path(f"studies/{study}.yaml").read_text())))
    content["paradigms"][column]["base_protocol"] = changes
    return Study.model_validate(content)


def test_base_has_its_protocol_and_others_have_the_column_s():
    study = with_changes("linear_1", {"vicreg": {"epochs": 7, "weight_decay": "1e-3"}})
    plain = load_study("fashion").paradigm("linear_1", "vicreg").protocol
    changed = study.paradigm("linear_1", "vicreg").protocol
    assert changed == LinearProtocol(**{**vars(plain), "epochs": 7, "weight_decay": 1e-3})
    assert study.paradigm("linear_1", "simsiam").protocol == plain


def test_results_say_the_protocol_that_they_have_and_no_other():
    before = load_study("fashion")
    after = with_changes("linear_1", {"vicreg": {"epochs": 7}})
    for base, changed in (("vicreg", True), ("simsiam", False)):
        run = Run(base, "e2mc", 0, 1)
        one, other = (decided_by(study, run, "linear_1") for study in (before, after))
        assert (one != other) == changed
        assert "base_protocol" not in json.dumps(other)
    values = decided_by(after, Run("vicreg", "base", 0, None), "linear_1")["paradigms"]["linear_1"]
    assert values["protocol"]["epochs"] == 7


@pytest.mark.parametrize(
    ("column", "changes", "message"),
    [
        ("linear_1", {"moco": {}}, r"paradigms\.linear_1\.base_protocol: base 'moco' does not"),
        (
            "linear_1",
            {"vicreg": {"rate": 1.0}},
            r"linear_1\.base_protocol\.vicreg: parameter 'rate' does not exist, .*learning_rates",
        ),
        (
            "linear_1",
            {"vicreg": {"epochs": "many"}},
            r"base_protocol\.vicreg: epochs must be a whole number, found 'many'",
        ),
        (
            "linear_1",
            {"vicreg": {"epochs": 0}},
            r"linear_1\.base_protocol\.vicreg: epochs must be at least 1, found 0",
        ),
        ("semisup_1", {"vicreg": {"head_lr": -1.0}}, r"vicreg: head_lr must not be negative"),
        ("knn", {"simsiam": {"k": [100000]}}, r"knn\.base_protocol\.simsiam: protocol\.k: 100000"),
    ],
)
def test_wrong_changes_are_refused_when_the_study_is_read(column, changes, message):
    with pytest.raises(ValueError, match=message):
        with_changes(column, changes)


def test_several_rates_of_a_base_are_not_chosen_on_test_images():
    changes = {"vicreg": {"learning_rates": [0.1, 0.3]}}
    with pytest.raises(ValueError, match=r"linear_1\.base_protocol\.vicreg: .*2 rates would be"):
        with_changes("linear_1", changes, study="paper")


def test_bases_of_the_paper_have_their_authors_protocols():
    study = load_study("paper")

    def linear(base):
        protocol = study.paradigm("linear_100", base).protocol
        return protocol.optimizer, protocol.learning_rates, protocol.batch_size, protocol.epochs

    def semisup(column, base):
        protocol = study.paradigm(column, base).protocol
        return protocol.trunk_lr, protocol.head_lr, protocol.schedule

    assert linear("swav_400") == linear("swav_800") == ("sgd", (0.3,), 256, 100)
    assert linear("vicreg") == ("sgd", (0.02,), 256, 100)
    assert linear("simsiam") == ("lars", (1.6,), 4096, 90)
    assert study.paradigm("linear_1_held_out", "vicreg").protocol.learning_rates == (0.02,)
    for base in ("swav_400", "swav_800"):
        assert semisup("semisup_1", base) == (0.02, 5.0, "step")
        assert semisup("semisup_10", base) == (0.01, 0.2, "step")
        protocol = study.paradigm("semisup_10", base).protocol
        assert (protocol.steps, protocol.gamma) == ((12, 16), 0.2)
    assert semisup("semisup_1", "vicreg") == (0.03, 0.08, "cosine")
    assert semisup("semisup_10", "vicreg") == (0.01, 0.1, "cosine")
    assert semisup("semisup_1", "simsiam") == (0.01, 0.2, "cosine")
