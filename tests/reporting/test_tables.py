from __future__ import annotations

import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pandas as pd
import pytest

from e2mc.reporting.layout import signed
from e2mc.reporting.results import collect
from e2mc.reporting.tables import build_table
from e2mc.study import Run, Study

WOBBLE = {None: 0.0, 0: 0.02, 1: -0.01, 2: 0.0}


def scores(effect, of_continued=0.05):
    """Scores with an effect of E2MC per base, and differences that vary a little by seed."""

    def score(run, paradigm, features):
        value = 70.0 + (features == "whitened") + WOBBLE[run.continuation_seed]
        if run.arm == "base":
            return value
        gain = of_continued + (effect.get(run.base, 0.0) if run.arm == "e2mc" else 0.0)
        return value + gain + (WOBBLE[run.continuation_seed] if run.arm == "e2mc" else 0.0)

    return score


@pytest.fixture
def table(study, write_results):
    def make(name="main", effect=None, **options):
        return build_table(study, name, collect(write_results(scores(effect or {}), **options)))

    return make


def rows_of(markdown, block):
    """Cells of the rows of one block."""
    text = markdown.split(f"**{block}**")[1].split("\n**")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_cells_hold_mean_spread_and_marked_difference(table):
    rows = rows_of(
        table(effect={"swav_long": 0.4}).markdown(), "Scores on the features as they are"
    )
    assert [row[:2] for row in rows] == [
        ["", "linear 1 %"],
        [":--------------", "---------------:"],
        ["**SwAV (long)**", ""],
        ["base", "70.00"],
        ["continued", "70.05 ± 0.02"],
        ["*− base*", "+0.05 ▲"],
        ["+ E2MC", "**70.46 ± 0.03**"],
        ["*− continued*", "+0.40 ▲"],
        ["**SimSiam**", ""],
        ["base", "70.00"],
        ["continued", "70.05 ± 0.02"],
        ["*− base*", "+0.05 ▲"],
        ["+ E2MC", "**70.06 ± 0.03**"],
        ["*− continued*", "0.00 ≈"],
    ]


def test_equal_means_are_all_bold(study, write_results):
    markdown = build_table(study, "main", collect(write_results(lambda *_: 70.0))).markdown()
    rows = rows_of(markdown, "Scores on the features as they are")
    assert [row[1] for row in rows if row[0] in ("base", "continued", "+ E2MC")] == [
        "**70.00**",
        "**70.00 ± 0.00**",
        "**70.00 ± 0.00**",
    ] * 2


def test_second_block_has_the_linear_columns_on_whitened_features(table):
    rows = rows_of(table().markdown(), "Scores on whitened features (linear classifiers only)")
    assert rows[0] == ["", "linear 1 %"]
    assert rows[3] == ["base", "71.00"]


def test_a_kind_of_paradigm_that_is_new_is_asked_for_its_score(seventh, write_results):
    made = build_table(seventh, "main", collect(write_results(scores({}), of=seventh)))
    rows = rows_of(made.markdown(), "Scores on whitened features (seventh of its kind only)")
    assert rows[0] == ["", "a seventh"] and rows[3] == ["base", "71.00"]
    best = seventh.model_copy(update={"reported_epoch": "best"})
    made = build_table(best, "main", collect(write_results(scores({}), of=seventh)))
    assert {entry.mean for entry in made.entries if entry.arm == "base"} == {70.0, 71.0}


def test_published_numbers_stand_apart_with_their_marks(table):
    made = table()
    paper = rows_of(made.markdown(), "The paper's scores")
    assert paper[3] == ["base", "53.70 ± 0.05", "53.89 ± 0.13†", ""]
    assert paper[5] == ["+ E2MC", "**55.27 ± 0.07**", "**53.94 ± 0.30**", ""]
    compared = rows_of(made.markdown(), "Difference to the reference, in the paper and here")
    assert compared[3] == ["E2MC − continued, paper", "+1.58", "", ""]
    assert compared[6] == ["E2MC − continued, paper", "0.00", "", ""]
    assert "\n\n† so marked in Table 1 of the paper.\n" in made.markdown()


def test_csv_is_tidy_and_complete(study, table):
    frame = pd.read_csv(io.StringIO(table(effect={"swav_long": 0.4}).csv()))
    assert len(frame) == 2 * 3 * (3 + 1)
    cell = frame[
        (frame["base"] == "swav_long") & (frame["arm"] == "e2mc") & (frame["column"] == "linear_1")
    ].iloc[0]
    assert (cell["features"], cell["n"], cell["reference"]) == ("raw", 3, "continued")
    assert cell["difference"] == pytest.approx(0.4033, abs=1e-4)
    assert cell["ci_low"] < cell["difference"] < cell["ci_high"]
    assert str(cell["within_noise"]) == "False"
    assert (cell["published"], cell["published_difference"]) == (55.27, 1.58)
    assert frame["missing"].isna().all()


def test_only_the_seeds_of_the_study_count(study, write_results):
    paths = write_results(lambda *_: 70.0)
    paths += write_results(lambda *_: 10.0, runs=[Run("swav_long", "e2mc", 0, 100)])
    assert all(entry.mean == 70.0 for entry in build_table(study, "main", collect(paths)).entries)


def test_every_format_can_be_had_without_writing(table, tmp_path):
    made = table()
    paths = made.save(tmp_path / "main")
    assert list(paths) == ["csv", "md", "tex", "html"]
    for kind, path in paths.items():
        assert path.read_text(encoding="utf-8") == made.text(kind)


def test_tables_do_not_depend_on_the_order_of_results(study, write_results):
    results = collect(write_results(scores({"simsiam": -0.2})))
    shuffled = results.sample(frac=1, random_state=0)
    first, second = (build_table(study, "main", frame) for frame in (results, shuffled))
    assert first.csv() == second.csv() and first.html() == second.html()


def test_a_missing_cell_says_why(study, write_results):
    runs = [run for run in study.runs(study.tables["main"].rows) if run.arm != "e2mc"]
    paths = write_results(lambda run, p, f: None if p == "semisup_1" else 70.0, runs=runs)
    made = build_table(study, "main", collect(paths))
    reasons = {(e.arm, e.column): e.missing for e in made.entries}
    assert reasons["e2mc", "linear_1"] == "not run"
    assert reasons["continued", "outfits_map"] == ""
    assert "*not run*" in made.markdown() and "nothing to compare yet" in made.verdict
    empty = build_table(study, "main", collect([]))
    assert {entry.missing for entry in empty.entries} == {"not run"}
    for text in (empty.markdown(), empty.latex(), empty.html(), empty.csv()):
        assert "not run" in text


def test_a_run_without_the_score_was_not_evaluated_for_it(study, write_results):
    paths = write_results(lambda run, p, f: None if f == "whitened" else 70.0)
    made = build_table(study, "main", collect(paths))
    assert {e.missing for e in made.entries if e.features == "whitened"} == {
        "not evaluated for this arm"
    }


def test_unfinished_cells_are_noted(study, write_results):
    runs = study.runs(study.tables["main"].rows)[:-1]
    made = build_table(study, "main", collect(write_results(scores({}), runs=runs)))
    assert "SimSiam, + E2MC, linear 1 %: 2 of 3 runs so far." in made.notes


@pytest.mark.parametrize(
    ("of_first", "of_others", "noted"),
    [
        # a base from a shipped or converted file, which no code here has trained
        ({"evaluation": "a"}, {"training": "b", "evaluation": "a"}, ""),
        # another criterion, which only the others use
        ({"evaluation": "a"}, {"evaluation": "a", "criteria/mmcr.py": "b"}, ""),
        ({"evaluation": "a"}, {"evaluation": "c"}, "of the code of evaluation, so"),
        (
            {"optim.py": "a", "evaluation": "a", "criteria/er.py": "a"},
            {"optim.py": "b", "evaluation": "a", "criteria/er.py": "b"},
            "of the code of criteria/er.py, optim.py, so",
        ),
        (
            {f"{name}.py": "a" for name in "fghij"},
            {f"{name}.py": "b" for name in "fghij"},
            "of the code of f.py, g.py, h.py and 2 more, so",
        ),
    ],
)
def test_versions_of_the_code_are_noted_when_they_differ(
    study, write_results, of_first, of_others, noted
):
    runs = study.runs(study.tables["main"].rows)
    paths = write_results(scores({}), runs=runs[:1], code=of_first)
    paths += write_results(scores({}), runs=runs[1:], code=of_others)
    # of another table
    rows = study.tables["variants"].rows
    other = [run for run in study.runs(rows) if run.arm != "continued"]
    paths += write_results(scores({}), runs=other, code={"evaluation": "z"})
    notes = build_table(study, "main", collect(paths)).notes
    found = [note for note in notes if "several versions" in note]
    assert len(found) == bool(noted)
    assert all(noted in note for note in found)


def test_scores_chosen_on_the_reported_images_are_noted(study):
    def about_choices(changed):
        notes = build_table(changed, "main", collect([])).notes
        return [note for note in notes if "best epoch on the very images" in note]

    images = {"format": "imagenet", "classes": 2, "train": 800, "test": 4, "view": {"size": 8}}
    content = study.model_dump(mode="json")
    std = {"mean": [0.3] * 3, "std": [0.3] * 3}  # images on disk are read in colour
    sets = {name: images | {"normalisation": std} for name in ("images", "outfits")}
    sets["outfits"]["format"] = "voc2007"
    content["data"] = {"dataset": "on-disk", "normalisation": std, "sets": sets}
    assert not about_choices(Study.model_validate(content))
    content["reported_epoch"] = "best"
    [note] = about_choices(Study.model_validate(content))
    assert note.startswith("linear 1 %, semi-sup. 1 %: the score")
    sets["images"]["validation"] = 2
    assert not about_choices(Study.model_validate(content))


def test_a_base_that_is_not_at_its_end_shows_its_gap(study, write_results):
    made = build_table(study, "main", collect(write_results(scores({}, of_continued=0.45))))
    assert "SwAV (long) (gap +0.45)" in made.markdown()
    assert any(note.startswith("gap:") for note in made.notes)


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        ({}, "At this scale E2MC does not help."),
        ({"swav_long": 0.4}, "E2MC helps: more comparisons are above noise than chance explains."),
        ({"swav_long": -0.4}, "At this scale E2MC does not help; it hurts more often"),
        ({"swav_long": 0.4, "simsiam": -0.4}, "E2MC helps in some and hurts in others"),
    ],
)
def test_verdict_follows_from_the_numbers(table, effect, words):
    assert words in table(effect=effect).verdict


def test_verdict_names_columns_beyond_noise_and_counts_the_others(study, write_results):
    def score(run, paradigm, features):
        gained = run.arm == "e2mc" and run.base == "swav_long" and paradigm == "linear_1"
        return scores({"swav_long": 0.4} if gained else {})(run, paradigm, features)

    verdict = build_table(study, "main", collect(write_results(score))).verdict
    assert "SwAV (long): above on linear 1 % (+0.40), within noise on 2 columns;" in verdict
    assert "SimSiam: within noise on all 3 columns." in verdict
    assert "In all 1 above, 0 below, 5 within noise" in verdict
    assert "no help of E2MC can be told from chance" in verdict
    assert "On whitened features: 1 above, 0 below, 1 within noise." in verdict
    assert "ours has its sign in 1" in verdict


def test_variants_are_compared_with_their_own_reference(study, write_results):
    def score(run, paradigm, features):
        return 70.0 + WOBBLE[run.continuation_seed] + 5 * run.arm.endswith("long")

    runs = study.runs(study.tables["variants"].rows)
    made = build_table(study, "variants", collect(write_results(score, runs=runs)))
    rows = rows_of(made.markdown(), "Scores on the features as they are")
    assert ["*− continued, 2 epochs*", "0.00 ≈"] in rows
    assert rows[4][0] != "*− base*"  # the base is not in this table
    assert made.verdict == ("No help at this scale, every comparison is within noise: half; long.")


def test_one_seed_says_nothing_about_noise(study, write_results):
    study = study.model_copy(
        update={"seeds": study.seeds.model_copy(update={"continuation": (0,)})}
    )
    made = build_table(study, "main", collect(write_results(scores({"swav_long": 0.4}))))
    assert "+0.42 ?" in made.markdown()
    assert "nothing can be said about noise" in made.verdict


def test_several_base_seeds_change_what_the_interval_covers(study):
    one = build_table(study, "main", collect([])).notes
    seeds = study.seeds.model_copy(update={"base": (0, 1)})
    two = build_table(study.model_copy(update={"seeds": seeds}), "main", collect([])).notes
    assert any("of one pre-training seed per base" in note for note in one)
    assert any("over 2 pre-training seeds" in note for note in two)


def test_an_unknown_table_is_named(study):
    with pytest.raises(ValueError, match="table 'table9' does not exist, expected one of main"):
        build_table(study, "table9", collect([]))


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_balanced_and_hints_at_the_interval(table):
    text = table(effect={"swav_long": 0.4}).html()
    Balance(text)
    assert re.search(r'title="95 % interval \+0\.37 to \+0\.44, n = 3">\+0\.40 ▲<', text)


def test_html_has_the_papers_number_ours_and_the_difference_side_by_side(table):
    text = table(effect={"swav_long": 0.4}).html()
    (beside,) = (part for part in text.split("<h2>") if part.startswith("Beside the paper"))
    assert re.findall(r'colspan="3">([^<]+)<', beside) == ["linear 1 %", "semi-sup. 1 %"]
    rows = re.findall(r"<tr[^>]*>(<th scope=\"row\".*?)</tr>", beside)
    cells = [[re.sub(r"<[^>]+>", "", cell) for cell in re.split(r"</t[hd]>", row)] for row in rows]
    assert cells[0][:7] == [
        "base", "53.70 ± 0.05", "70.00", "+16.30", "53.89 ± 0.13†", "70.00", "+16.11"
    ]  # fmt: skip
    assert cells[3][:4] == ["+ E2MC", "55.27 ± 0.07", "70.46 ± 0.03", "+15.19"]
    assert cells[4][:4] == ["− continued", "+1.58", "+0.40 ▲", "−1.18"]


def test_marks_in_html_lead_to_their_footnotes(table):
    text = table().html()
    links = set(re.findall(r'<sup><a href="#([^"]+)">†</a></sup>', text))
    assert links and all(text.count(f'id="{link}"') == 1 for link in links)
    assert "</sup> so marked in Table 1 of the paper.</p>" in text


def test_latex_is_a_whole_document(table):
    text = table(effect={"swav_long": 0.4}).latex()
    for name in ("document", "tabular", "minipage", "itemize"):
        count = text.count(rf"\begin{{{name}}}")
        assert count == text.count(rf"\end{{{name}}}") > 0
    body = text.split(r"\begin{document}")[1]
    assert body.isascii() and not re.search(r"(?<!\\)[%#]", body)


COMPILERS = {
    "pdflatex": ["-interaction=nonstopmode", "-halt-on-error"],
    "tectonic": ["--only-cached"],
}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["main", "variants"])
def test_latex_compiles_by_itself(compiler, name, study, write_results, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    runs = study.runs(study.tables[name].rows)
    results = collect(write_results(scores({"swav_long": 0.4}), runs=runs))
    (tmp_path / "table.tex").write_text(build_table(study, name, results).latex(), encoding="utf-8")
    done = subprocess.run(
        [compiler, *COMPILERS[compiler], "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("value", "text"), [(0.314, "+0.31"), (-0.314, "−0.31"), (0.004, "0.00"), (-0.004, "0.00")]
)
def test_signed(value, text):
    assert signed(value) == text


def test_says_whether_the_recipe_fits_the_published_rows(study, write_results):
    def score(run, paradigm, features):
        moved = {"swav_long": 0.104, "simsiam": -0.11}[run.base]
        return 70.0 + (run.arm == "continued") * (moved if paradigm == "linear_1" else 5.0)

    made = build_table(study, "main", collect(write_results(score)))
    assert [note for note in made.notes if "published rows" in note] == [
        "SwAV (long): continued − base is +0.10 where it is largest (linear 1 %), within ±0.1: "
        "recipe fits the published rows.",
        "SimSiam: continued − base is −0.11 where it is largest (linear 1 %), not within ±0.1: "
        "recipe does not fit the published rows.",
    ]
    apart = build_table(study, "variants", collect(write_results(score)))
    assert not any("published rows" in note for note in apart.notes)


def test_a_cell_that_the_paper_leaves_blank_is_not_asked_for(study, write_results):
    short = study.model_copy(update={"extended": False})

    def score(run, paradigm, features):
        if run.arm == "continued" and paradigm == "semisup_1":
            return None  # not made
        return scores({"swav_long": 0.4})(run, paradigm, features)

    made = build_table(short, "main", collect(write_results(score, of=short)))
    rows = rows_of(made.markdown(), "Scores on the features as they are")
    [continued, e2mc] = [row for row in rows[:8] if row[0] in ("continued", "+ E2MC")]
    [differences] = [row for row in rows[:8] if row[0] == "*− continued*"]
    assert continued[2] == "*–*" and e2mc[2].startswith("**70.46")
    # to the base, where continued training alone gains 0.05
    assert (differences[1], differences[2]) == ("+0.40 ▲", "+0.46 ▲§")
    assert "\n\n§ to base: the paper has no continued in this column.\n" in made.markdown()
    compared = rows_of(made.markdown(), "Difference to the reference, in the paper and here")
    assert compared[3] == ["E2MC − continued, paper", "+1.58", "+0.05§", ""]
    assert any(note.startswith("–: the paper's table has no number there") for note in made.notes)
    assert "The differences of semi-sup. 1 % are to base." in made.verdict
    for kind in ("tex", "html"):
        assert "§" in made.text(kind)
    frame = pd.read_csv(io.StringIO(made.csv()))
    chosen = frame[(frame["base"] == "swav_long") & (frame["arm"] == "e2mc")]
    assert chosen.set_index("column")["reference"]["semisup_1"] == "base"
