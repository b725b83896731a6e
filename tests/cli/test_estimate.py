import contextlib
import dataclasses
from pathlib import Path

import pytest

from e2mc.cli.estimate import Rates, estimate, price, read_rates, wall_hours
from e2mc.study import ShippedCheckpoint, load_study

GIVEN = {
    "vicreg": 1000.0,
    "swav": 500.0,
    "simsiam": 1200.0,
    "features": 4000.0,
    "fine-tuning": 1500.0,
}
IMAGENET, VAL, INAT, INAT_VAL, VOC = 1_281_167, 50_000, 437_513, 24_426, 5011 + 4952
FEW = 128_116  # of the 10 % list, which holds the 1 %


@pytest.fixture(autouse=True, scope="module")
def in_the_repository():
    with contextlib.chdir(Path(__file__).parents[2]):
        yield


@pytest.fixture(scope="module")
def paper(in_the_repository):
    return load_study("paper")


def rows_of(study, rates=GIVEN, **options):
    frame = estimate(study, Rates(rates), **options).frame
    return frame.set_index(["table", "base", "arm"]).sort_index()


@pytest.fixture(scope="module")
def found(paper):
    return rows_of(paper)


def hours(images, what):
    return images / GIVEN[what] / 3600


def streamed(paper, name, base):
    """Images on fresh views under one paradigm."""
    paradigm = paper.paradigm(name, base)
    return paradigm.work(paper.data.counts(paradigm.dataset)).streamed


def test_pretraining_is_epochs_times_images(found):
    assert found.loc[("table1", "vicreg", "base"), "pre-training"] == 0
    row = found.loc[("table1", "vicreg", "e2mc")]
    assert row["runs"] == 3
    assert row["pre-training"] == pytest.approx(3 * hours(10 * IMAGENET, "vicreg"))


def test_steps_are_as_many_batches(paper):
    recipe = dataclasses.replace(paper.bases["vicreg"].continued, epochs=None, steps=100)
    changed = paper.bases["vicreg"].model_copy(update={"continued": recipe})
    rows = rows_of(
        paper.model_copy(update={"bases": paper.bases | {"vicreg": changed}, "stages": ()})
    )
    row = rows.loc[("table1", "vicreg", "e2mc")]
    assert row["pre-training"] == pytest.approx(3 * hours(100 * recipe.batch_size, "vicreg"))


def test_each_job_counts_its_passes_once(paper, found):
    """100 epochs over the 10 % serve 1 %, too; linear 100 % and iNat18 have banks of their own.

    Fresh views and fine-tuning are each of the three evaluation seeds' own.
    """
    row = found.loc[("table1", "swav_800", "base")]
    # the moments of all training features, in two jobs
    once = 2 * (VAL + IMAGENET) + INAT_VAL + VOC
    passes = streamed(paper, "linear_100", "swav_800") + streamed(paper, "inat18_top1", "swav_800")
    assert row["frozen"] == pytest.approx(hours(3 * 100 * FEW + passes + once, "features"))
    trained, looked_at = 3 * 20 * (12_811 + FEW), 3 * 2 * 20 * VAL
    expected = hours(trained, "fine-tuning") + hours(looked_at, "features")
    assert row["fine-tuning"] == pytest.approx(expected)
    total = row["pre-training"] + row["frozen"] + row["fine-tuning"]
    assert row["GPU-hours"] == pytest.approx(total)


def test_blank_cells_of_the_papers_tables_cost_nothing(paper, found):
    for base in ("vicreg", "swav_400", "swav_800", "simsiam"):
        assert found.loc[("table1", base, "continued"), "fine-tuning"] == 0
    assert found.loc[("table1", "simsiam", "e2mc"), "fine-tuning"] == 0
    extended = rows_of(paper.model_copy(update={"extended": True}))
    row = extended.loc[("table1", "simsiam", "e2mc")]
    assert row["fine-tuning"] == pytest.approx(
        # the base under three evaluation seeds
        extended.loc[("table1", "simsiam", "base"), "fine-tuning"]
    )


def test_a_shared_pass_costs_less(paper, found):
    apart = {
        name: dataclasses.replace(paradigm, shared_pass=False) if name == "linear_1" else paradigm
        for name, paradigm in paper.paradigms.items()
    }
    dearer = rows_of(paper.model_copy(update={"paradigms": apart}))
    place = ("table1", "swav_800", "e2mc")
    more = dearer.loc[place, "frozen"] - found.loc[place, "frozen"]
    # of three runs; the features of plain views are computed again in a job of their own
    assert more == pytest.approx(3 * hours(100 * 12_811 + VAL + IMAGENET, "features"))


def test_a_run_of_both_tables_counts_once_in_all(found):
    together = found.loc[("together", "", "")]
    table1, table2 = found.loc["table1"], found.loc["table2"]
    shared = ["base", "continued", "e2mc"]
    again = table2.loc["swav_800"].loc[shared]
    expected = table1["GPU-hours"].sum() + table2["GPU-hours"].sum() - again["GPU-hours"].sum()
    assert together["GPU-hours"] == pytest.approx(expected)
    assert together["runs"] == table1["runs"].sum() + table2["runs"].sum() - again["runs"].sum()


def test_the_whole_costs_what_the_issue_allows(paper):
    rates = {"vicreg": 900, "swav": 500, "simsiam": 900, "features": 3000, "fine-tuning": 1500}
    rows = rows_of(paper, rates)
    assert 15 < rows.loc[("stage paper-first", "", ""), "GPU-hours"] <= 20
    assert 250 < rows.loc[("together", "", ""), "GPU-hours"] <= 320


def test_sums_and_stages(paper):
    rates = GIVEN | {"byol": 1000.0, "dino": 900.0}
    frame = estimate(paper, Rates(rates)).frame
    sums = frame[frame["base"] == ""].set_index("table")
    assert sums.index.tolist() == ["together", "sweep", "everything"] + [
        f"stage {name}" for name in paper.stages
    ]
    assert (sums["GPU-hours"] > 0).all()
    first, both = sums["GPU-hours"][["stage paper-first", "stage paper"]]
    # more evaluation seeds of a base want the features of its plain views again
    again = hours(VAL + IMAGENET, "features")
    assert first + both == pytest.approx(sums.loc["together", "GPU-hours"] + again)
    # 16 models of 100 epochs, and their linear 100 %
    er = sums.loc["stage paper-er"]
    assert er["runs"] == 16
    trained = 8 * (hours(100 * IMAGENET, "vicreg") + 100 * IMAGENET / 900 / 3600)
    assert er["pre-training"] == pytest.approx(trained)


def test_a_stage_is_estimated_by_what_it_makes(paper):
    rows = rows_of(load_study("paper-first"))
    assert rows.loc[("first", "swav_800", "e2mc"), "runs"] == 1
    together = rows.loc[("together", "", "")]
    assert together["GPU-hours"] == pytest.approx(rows.loc["first"]["GPU-hours"].sum())
    stage = rows.loc[("stage paper-first", "", "")]
    assert together["GPU-hours"] == pytest.approx(stage["GPU-hours"])
    curves = rows_of(load_study("paper-convergence"))
    assert curves.loc[("convergence", "swav_800", "e2mc-short"), "runs"] == 3


def test_a_stage_without_a_rate_says_so(paper):
    found = estimate(paper, Rates(GIVEN))
    [sentence] = found.unknown
    assert sentence.startswith("stage paper-er: no rate for byol: measure it or give it")
    assert found.frame.iloc[-1].isna()["GPU-hours"]
    with pytest.raises(ValueError, match="no rate for byol"):
        estimate(load_study("paper-er"), Rates(GIVEN))


def test_disk_space(paper, found):
    # ResNet-50 23.51 M, expander 151.04 M parameters, momentum for each
    base = found.loc[("table1", "vicreg", "base"), "disk GB"]
    assert base == pytest.approx(2 * 2 * 174.55e6 * 4 / 1e9, rel=1e-3)
    continued = found.loc[("table1", "vicreg", "continued"), "disk GB"]
    assert continued == pytest.approx(3 * 174.55e6 * 4 / 1e9, rel=1e-3)
    less = rows_of(paper, keep=())
    assert less.loc[("table1", "vicreg", "continued"), "disk GB"] == 0
    assert less.loc[("table1", "vicreg", "base"), "disk GB"] == pytest.approx(base / 2)


def test_wall_time_follows_the_chains_and_the_gpus(found):
    #       a 3 -> b 2, c 2 ; d 4
    jobs = {"a": (3.0, "a"), "b": (2.0, "a"), "c": (2.0, "a"), "d": (4.0, "x")}
    assert wall_hours(jobs, 1) == 11
    # a with d beside it, then b and c
    assert wall_hours(jobs, 2) == 6
    assert wall_hours(jobs, 8) == 5
    assert wall_hours({}, 2) == 0
    row = found.loc[("together", "", "")]
    assert row["1 GPU"] == pytest.approx(row["GPU-hours"])
    assert row["GPU-hours"] / 2 <= row["2 GPUs"] < row["1 GPU"]
    longest = found.loc["table1"]["8 GPUs"].max()
    assert max(longest, row["GPU-hours"] / 8) <= row["8 GPUs"] < row["4 GPUs"]


def test_rates_from_a_file(tmp_path, paper):
    path = tmp_path / "rates.csv"
    rows = "".join(f"{what},{rate},NVIDIA H200\n" for what, rate in GIVEN.items())
    path.write_text("what,images_per_second,device\n" + rows)
    rates = read_rates(path)
    assert rates.images_per_second == GIVEN and "measured on NVIDIA H200" in rates.origin
    assert rates.device == "NVIDIA H200"
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


def test_a_base_that_is_trained_here_is_paid_for_once(paper, found):
    simsiam = paper.bases["simsiam"]
    recipe = dataclasses.replace(simsiam.continued, epochs=100)
    own = simsiam.model_copy(update={"checkpoint": None, "pretraining": recipe})
    changes = {"bases": paper.bases | {"simsiam": own}, "stages": ()}
    rows = rows_of(paper.model_copy(update=changes))
    once = hours(100 * IMAGENET, "simsiam")
    assert rows.loc[("table1", "simsiam", "base"), "pre-training"] == pytest.approx(once)
    before, after = (frame.loc[("together", "", "")] for frame in (found, rows))
    assert after["pre-training"] - before["pre-training"] == pytest.approx(once)


def test_seeds_of_which_no_checkpoint_is_shipped_are_paid_for():
    study = load_study("glyphs")
    shipped = ShippedCheckpoint(
        kind="shipped", path="swav-base{seed}.pt", sha256={0: "0" * 64, 3: "0" * 64}
    )
    base = study.bases["swav"].model_copy(update={"checkpoint": shipped})
    changed = study.model_copy(update={"bases": study.bases | {"swav": base}})
    before, after = (
        rows_of(one).loc[("together", "", ""), "pre-training"] for one in (study, changed)
    )
    assert before - after == pytest.approx(2 * hours(75 * 20_480, "swav"))


def test_the_price_of_a_study_in_a_sentence(tmp_path):
    path, first = tmp_path / "rates.csv", load_study("paper-first")
    ask = "`e2mc estimate --study paper-first` measures what study paper-first costs."
    assert price(first, ("continued",), path) == ask
    rows = "".join(f"{what},{rate},a GPU\n" for what, rate in GIVEN.items() if what != "swav")
    path.write_text("what,images_per_second,device\n" + rows)
    assert price(first, ("continued",), path) == ask
    path.write_text(path.read_text() + "swav,500,a GPU\n")
    cost = "Study paper-first in all: 17 GPU-hours, 0.3 GB of checkpoints"
    assert price(first, ("continued",), path) == f"{cost} (measured on a GPU, {path})."


def test_data_sets_of_torchvision_are_counted_too(in_the_repository):
    study = load_study("cifar100")
    row = rows_of(study).loc[("together", "", "")]
    trained = {"vicreg": 1, "swav": 1, "simsiam": 1}
    # 3 bases of 200 epochs; of each 3 seeds with 2 arms of 10 epochs, of SwAV 3 rivals more
    pretraining = sum(3 * hours(200 * 45_000, name) for name in trained)
    runs = {"vicreg": 18, "swav": 45, "simsiam": 18}
    continued = sum(hours(runs[name] * 10 * 45_000, name) for name in runs)
    assert row["pre-training"] == pytest.approx(pretraining + continued)
    assert row["runs"] == 9 + 81
