"""The bias of banks of views, of arms and of their difference."""

from __future__ import annotations

import pytest

from e2mc.reporting.results import collect
from e2mc.reporting.views_bank import VIEWS_BANK, bank_biases, biases_in_words
from e2mc.study import Study

# bank -> bias of continued, of E2MC, and what it varies by from seed to seed
BIAS = {"bank_1": (-1.5, -1.0, 0.01), "bank_8": (-0.3, -0.3, 0.1)}


@pytest.fixture
def compared(study):
    content = study.model_dump(mode="json")
    column = content["paradigms"]["linear_1"] | {"views": {"size": 28}}
    content["paradigms"]["linear_1"] = column
    for name in BIAS:
        views = int(name[5:])
        content["paradigms"][name] = column | {"views_bank": views, "label": f"bank of {views}"}
    columns = [["linear_1", *BIAS]]
    content["views_bank"] = {"base": "swav_long", "arm": "e2mc", "columns": columns}
    return Study.model_validate(content)


@pytest.fixture
def biases(compared, write_results):
    def score(run, paradigm, features):
        seed, e2mc = run.continuation_seed or 0, run.arm == "e2mc"
        value = 70.0 + seed + 2 * e2mc
        if paradigm in BIAS:
            of_continued, of_e2mc, apart = BIAS[paradigm]
            value += of_e2mc + apart * (seed - 1) if e2mc else of_continued
        return value

    return bank_biases(compared, collect(write_results(score, of=compared)))


def test_bias_is_paired_and_that_of_the_gain_is_the_difference_of_both(biases):
    assert biases["of"].tolist() == ["continued", "e2mc", "gain"] * 2
    assert set(biases["n"]) == {3}
    means = biases.set_index(["bank", "of"])["bias"]
    assert means["bank_1"].tolist() == pytest.approx([-1.5, -1.0, 0.5])
    assert means["bank_8"].tolist() == pytest.approx([-0.3, -0.3, 0.0])
    gain = biases[(biases["bank"] == "bank_8") & (biases["of"] == "gain")].iloc[0]
    assert gain["ci_low"] == pytest.approx(-gain["ci_high"])
    # t(2) s / sqrt(3) with s = 0.1
    assert gain["ci_high"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)


def test_words_say_what_is_within_noise(compared, biases):
    said = biases_in_words(compared, biases)[1:]
    assert said == [
        "linear 1 %: bias of the gain within noise with bank of 8.",
        "linear 1 %: bias of the gain beyond noise with bank of 1.",
    ]


def test_table_has_a_row_per_bank(compared, write_results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(lambda run, name, _: 70.0 - 0.5 * (name == "bank_1"), of=compared)
    VIEWS_BANK.show(compared, VIEWS_BANK.outputs(compared))
    text = (compared.root / "tables/views_bank.md").read_text()
    assert "| fresh views | bank | n | continued | + E2MC | gain (E2MC − continued) |" in text
    assert text.count("| linear 1 % | bank of") == 2
    assert "−0.50 (−0.50 to −0.50)" in text


def test_what_is_missing(study, compared):
    with pytest.raises(ValueError, match="no views_bank: add the key"):
        bank_biases(study, collect([]))
    biases = bank_biases(compared, collect([]))
    assert biases["bias"].isna().all() and set(biases["n"]) == {0}
    assert len(biases_in_words(compared, biases)) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"base": "swav"}, "views_bank: base 'swav' does not exist"),
        ({"arm": "e2mcc"}, "views_bank: arm 'e2mcc' does not exist"),
        ({"columns": [["linear_1", "bank_9"]]}, "views_bank: paradigm 'bank_9' does not exist"),
    ],
)
def test_names_are_checked(compared, change, sentence):
    content = compared.model_dump(mode="json")
    content["views_bank"] |= change
    with pytest.raises(ValueError, match=sentence):
        Study.model_validate(content)
