import dataclasses
from pathlib import Path

import pytest

from e2mc.cli.estimate import Rates, estimate, read_rates
from e2mc.study import load_study

GIVEN = {
    "vicreg": 1000.0,
    "swav": 500.0,
    "simsiam": 1200.0,
    "features": 4000.0,
    "fine-tuning": 1500.0,
}
IMAGENET, VAL, INAT, INAT_VAL, VOC = 1_281_167, 50_000, 437_513, 24_426, 5011 + 4952


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    return load_study("paper")


@pytest.fixture
def found(paper):
    return estimate(paper, Rates(GIVEN)).set_index(["table", "base", "arm"])


def hours(images, what):
    return images / GIVEN[what] / 3600


def test_pretraining_is_epochs_times_images(found):
    assert found.loc[("table1", "vicreg", "base"), "pre-training"] == 0
    row = found.loc[("table1", "vicreg", "e2mc")]
    assert row["runs"] == 3
    assert row["pre-training"] == pytest.approx(3 * hours(10 * IMAGENET, "vicreg"))


def test_all_label_fractions_share_the_passes(paper, found):
    """100 epochs over ImageNet serve the three linear columns; iNat18 has its own 84."""
    row = found.loc[("table1", "simsiam", "base")]
    once = VAL + INAT_VAL + VOC
    if "whitened" in paper.paradigms["linear_1"].features:
        once += IMAGENET  # the moments of the training features
    images = 100 * IMAGENET + 84 * INAT + once
    assert row["frozen"] == pytest.approx(hours(images, "features"))
    trained, looked_at = 20 * (12_811 + 128_116), 2 * 20 * VAL
    expected = hours(trained, "fine-tuning") + hours(looked_at, "features")
    assert row["fine-tuning"] == pytest.approx(expected)
    total = row["pre-training"] + row["frozen"] + row["fine-tuning"]
    assert row["GPU-hours"] == pytest.approx(total)


def test_passes_of_their_own_cost_more(paper, found):
    apart = {
        name: dataclasses.replace(paradigm, shared_pass=False)
        if name.startswith("linear")
        else paradigm
        for name, paradigm in paper.paradigms.items()
    }
    dearer = estimate(paper.model_copy(update={"paradigms": apart}), Rates(GIVEN))
    row = dearer.set_index(["table", "base", "arm"]).loc[("table1", "simsiam", "base")]
    more = 100 * (12_811 + 128_116)
    before = found.loc[("table1", "simsiam", "base"), "frozen"]
    assert row["frozen"] - before == pytest.approx(hours(more, "features"))


def test_a_run_of_both_tables_counts_once_in_all(found):
    together = found.loc[("together", "", "")]
    table1, table2 = found.loc["table1"], found.loc["table2"]
    again = table2.loc["swav_800"].loc[["base", "continued", "e2mc"]]
    expected = table1["GPU-hours"].sum() + table2["GPU-hours"].sum() - again["GPU-hours"].sum()
    assert together["GPU-hours"] == pytest.approx(expected)
    assert together["runs"] == table1["runs"].sum() + table2["runs"].sum() - again["runs"].sum()


def test_disk_space(paper, found):
    # ResNet-50 23.51 M, expander 151.04 M parameters, momentum for each
    base = found.loc[("table1", "vicreg", "base"), "disk GB"]
    assert base == pytest.approx(2 * 2 * 174.55e6 * 4 / 1e9, rel=1e-3)
    continued = found.loc[("table1", "vicreg", "continued"), "disk GB"]
    assert continued == pytest.approx(3 * 174.55e6 * 4 / 1e9, rel=1e-3)
    less = estimate(paper, Rates(GIVEN), keep=()).set_index(["table", "base", "arm"])
    assert less.loc[("table1", "vicreg", "continued"), "disk GB"] == 0
    assert less.loc[("table1", "vicreg", "base"), "disk GB"] == pytest.approx(base / 2)


def test_rates_from_a_file(tmp_path, paper):
    path = tmp_path / "rates.csv"
    rows = "".join(f"{what},{rate},NVIDIA H200\n" for what, rate in GIVEN.items())
    path.write_text("what,images_per_second,device\n" + rows)
    rates = read_rates(path)
    assert rates.images_per_second == GIVEN and "measured on NVIDIA H200" in rates.origin
    assert Rates(GIVEN).origin == "given, not measured"
    path.write_text(path.read_text() + "more,1,other\n")
    with pytest.raises(ValueError, match="several devices: NVIDIA H200, other"):
        read_rates(path)
    path.write_text("what,rate\nvicreg,3\n")
    with pytest.raises(ValueError, match="holds no rates: expected rows with columns what"):
        read_rates(path)
    path.write_text("what,images_per_second,device\nvicreg,fast,x\n")
    with pytest.raises(ValueError, match="must be numbers: .*'fast'"):
        read_rates(path)


def test_missing_and_impossible_rates(paper):
    with pytest.raises(ValueError, match=r"no rate for simsiam: .* \(known: vicreg, swav, feat"):
        estimate(paper, Rates({k: v for k, v in GIVEN.items() if k != "simsiam"}))
    with pytest.raises(ValueError, match="the rate of swav is 0, it must be positive"):
        Rates({"swav": 0})


def test_study_in_memory(paper):
    with pytest.raises(ValueError, match="study fashion does not say how many images it has"):
        estimate(load_study("fashion"), Rates(GIVEN))
