import json
import re
from pathlib import Path

import pytest
import yaml

from e2mc.checkpoints.released import FORMATS
from e2mc.study import (
    Config,
    ReleasedCheckpoint,
    Run,
    Study,
    StudyError,
    load_config,
    load_stages,
    load_study,
    read_config,
)
from e2mc.training.spec import Component


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def study():
    return load_study(str(Path(__file__).parents[2] / "studies/fashion.yaml"))


@pytest.mark.parametrize("name", sorted(path.stem for path in Path("studies").glob("*.yaml")))
def test_every_study_is_valid(name):
    assert load_study(name).name == name


def test_run_and_its_name_are_one():
    for run in (Run("vicreg", "base", 2, None), Run("vicreg", "e2mc", 0, 13)):
        assert Run.parse(run.base, run.arm, run.seeds) == run
    assert Run("vicreg", "e2mc", 0, 13).seeds == "base0-cont13"


def test_paths(study):
    run = Run("vicreg", "e2mc", 0, 1)
    expected = "results/fashion/evaluations/vicreg/e2mc/base0-cont1/linear_1.json"
    assert study.result_path(run, "linear_1") == Path(expected)


def test_arms_differ_from_continued_in_the_criterion_alone(study):
    plain = study.training_spec(Run("swav_long", "continued", 0, 1))
    with_e2mc = study.training_spec(Run("swav_long", "e2mc", 0, 1))
    assert plain.criteria == () and [c.name for c in with_e2mc.criteria] == ["e2mc"]
    assert plain == type(plain)(**(vars(with_e2mc) | {"criteria": ()}))


def test_variants_inherit(study):
    (e2mc,) = study.training_spec(Run("swav_long", "e2mc", 0, 0)).criteria
    (only,) = study.training_spec(Run("swav_long", "e2mc-entropy-only", 0, 0)).criteria
    assert only == Component("e2mc", e2mc.params | {"covariance_weight": 0.0})
    assert study.training_spec(Run("swav_long", "e2mc-epochs-3", 0, 0)).epochs == 3
    assert study.training_spec(Run("swav_long", "e2mc-batch-128", 0, 0)).batch_size == 128


def test_criterion_of_a_variant_is_that_of_its_origin(study):
    arms = ("base", "continued", "e2mc", "e2mc-entropy-only", "mmcr")
    names = [study.criterion_names(arm) for arm in arms]
    assert names == [(), (), ("e2mc",), ("e2mc",), ("mmcr",)]


def study_with_arms(**arms):
    return Study.model_validate(content_of("fashion", lambda content: content["arms"].update(arms)))


E2MC_AND_ER = [
    {"name": "e2mc", "params": {"window": 8}, "base_params": {"simsiam": {"window": 4}}},
    {"name": "er", "params": {"kappa": 5.0}},
]


def test_several_criteria_are_a_list():
    study = study_with_arms(both={"label": "both", "criteria": E2MC_AND_ER})
    expected = (Component("e2mc", {"window": 8}), Component("er", {"kappa": 5.0}))
    assert study.training_spec(Run("vicreg", "both", 0, 0)).criteria == expected
    of_simsiam = study.training_spec(Run("simsiam", "both", 0, 0)).criteria
    assert of_simsiam == (Component("e2mc", {"window": 4}), expected[1])
    assert study.criterion_names("both") == ("e2mc", "er")


def test_list_of_one_is_the_long_form():
    params = {"params": {"window": 8}, "base_params": {"simsiam": {"window": 4}}}
    study = study_with_arms(
        short={"label": "short", "criterion": "e2mc", **params},
        long={"label": "long", "criteria": [{"name": "e2mc", **params}]},
    )
    for base in study.bases:
        short, long = (study.training_spec(Run(base, arm, 0, 0)) for arm in ("short", "long"))
        assert short == long


def test_variant_of_several_criteria_names_the_one_that_it_changes():
    both = {"label": "both", "criteria": E2MC_AND_ER}
    sharp = {"variant_of": "both", "criteria": [{"name": "er", "params": {"estimator": "joe"}}]}
    study = study_with_arms(both=both, sharp=sharp | {"label": "sharp"})
    assert study.training_spec(Run("vicreg", "sharp", 0, 0)).criteria == (
        Component("e2mc", {"window": 8}),
        Component("er", {"kappa": 5.0, "estimator": "joe"}),
    )


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (
            {"x": {"criteria": E2MC_AND_ER, "criterion": "auh"}},
            r"(?s)arms\.x.*give either criteria, .* or criterion .*, not both",
        ),
        (
            {"x": {"criteria": E2MC_AND_ER, "params": {"window": 3}}},
            r"(?s)arms\.x.*give either criteria",
        ),
        (
            {"x": {"criteria": [*E2MC_AND_ER, {"name": "er"}]}},
            "'er' is named 2 times, expected once",
        ),
        ({"x": {"criteria": [{"name": "err"}]}}, r"arms\.x .*criterion 'err' does not exist"),
        (
            {"x": {"criteria": [{"name": "er", "params": {"kapa": 1.0}}]}},
            r"arms\.x .*parameter 'kapa' does not exist",
        ),
        (
            {"x": {"criteria": [{"name": "er", "base_params": {"moco": {}}}]}},
            r"arms\.x\.base_params: base 'moco' does not exist",
        ),
        ({"x": {"params": {"window": 3}}}, r"(?s)arms\.x.*there is no criterion: name it"),
        (
            {"x": {"variant_of": "continued", "params": {"window": 3}}},
            r"arms\.x: params are those of a single criterion, but continued has none",
        ),
        (
            {
                "both": {"criteria": E2MC_AND_ER},
                "x": {"variant_of": "both", "params": {"window": 3}},
            },
            r"arms\.x: .* both has e2mc, er: list whose they are under criteria",
        ),
        (
            {"x": {"variant_of": "e2mc", "criterion": "er"}},
            r"arms\.x: e2mc has the criteria e2mc, .* found 'er': leave out variant_of",
        ),
    ],
)
def test_what_criteria_of_an_arm_may_not_say(arms, message):
    with pytest.raises(ValueError, match=message):
        study_with_arms(**{name: {"label": name} | arm for name, arm in arms.items()})


def in_steps(content, steps=100, **more):
    """The continued runs of VICReg are so many steps long."""
    content["bases"]["vicreg"]["continued"] |= {"epochs": None, "steps": steps, **more}


def test_recipes_and_arms_may_count_steps():
    def change(content):
        in_steps(content)
        content["arms"]["e2mc-window-4"]["steps"] = 7

    study = Study.model_validate(content_of("fashion", change))
    lengths = {
        (base, arm): (spec.epochs, spec.steps)
        for base in ("vicreg", "simsiam")
        for arm in ("continued", "e2mc-window-4", "e2mc-epochs-3")
        for spec in [study.training_spec(Run(base, arm, 0, 0))]
    }
    assert lengths == {
        ("vicreg", "continued"): (None, 100),
        ("vicreg", "e2mc-window-4"): (None, 7),
        ("vicreg", "e2mc-epochs-3"): (3, None),
        ("simsiam", "continued"): (1, None),
        ("simsiam", "e2mc-window-4"): (None, 7),
        ("simsiam", "e2mc-epochs-3"): (3, None),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: in_steps(c, epochs=1), "found epochs 1 and steps 100: give one of them alone"),
        (lambda c: in_steps(c, None), "one of epochs and steps, found none: give"),
        (lambda c: in_steps(c, 0), "steps must be at least 1, found 0"),
        (
            lambda c: c["arms"]["e2mc"].update(epochs=2, steps=5),
            r"arms\.e2mc.*found epochs 2 and steps 5",
        ),
        (
            lambda c: in_steps(c, head_warmup_epochs=2),
            r"bases\.vicreg\.continued \(arm \w+\): head_warmup_epochs must leave some of the 100",
        ),
        (
            lambda c: c["arms"]["e2mc-epochs-3"].update(epochs=None, steps=9),
            "convergence: arm e2mc-epochs-3 of base .* for 9 steps, but its curve .* over epochs",
        ),
    ],
)
def test_lengths_that_are_refused(change, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Study.model_validate(content_of("fashion", change))


def test_methods_without_heads_have_none_to_warm_up():
    def change(content, method):
        content["bases"]["vicreg"]["continued"] |= {"epochs": 2, "head_warmup_epochs": 1}
        content["bases"]["vicreg"]["method"] = method

    vicreg = {"name": "vicreg", "params": {"expander": [8]}}
    content = content_of("fashion", lambda content: change(content, vicreg))
    spec = Study.model_validate(content).training_spec(Run("vicreg", "e2mc-epochs-3", 0, 0))
    assert (spec.epochs, spec.head_warmup_epochs) == (3, 1)
    with pytest.raises(ValueError, match="is 1, but method anchor has no heads: leave it out"):
        Study.model_validate(content_of("fashion", lambda c: change(c, {"name": "anchor"})))


def test_base_is_trained_by_its_own_recipe(study):
    spec = study.training_spec(Run("vicreg", "base", 3, None))
    assert (spec.epochs, spec.seed, spec.criteria) == (40, 3, ())


def test_runs_of_the_base_arm_have_no_continuation_seed(study):
    runs = study.runs(study.tables["table2"].rows)
    assert sum(run.arm == "base" for run in runs) == 1
    assert len(runs) == 1 + 5 * 3


def test_sweep_uses_seeds_that_no_table_reports(study):
    assert not set(study.sweep.seeds) & set(study.seeds.continuation)


def test_extending_replaces_only_what_is_named():
    full, small = load_study("fashion-full"), load_study("fashion")
    assert full.bases["vicreg"].continued.epochs == 10
    assert full.bases["vicreg"].pretraining == small.bases["vicreg"].pretraining
    assert full.tables == small.tables


def changed(tmp_path, old, new):
    text = Path("studies/fashion.yaml").read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new, 1))
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "epochs: 40",
            "epochs: 0",
            r"changed\.yaml: bases\.vicreg\.pretraining: epochs must be .*found 0",
        ),
        ("images: 16384", "image: 16384", r"unknown key .*\.image, did you mean 'images'"),
        ("criterion: mmcr", "criterion: mmrc", "mmrc"),
        ("size: 28, crop", "size: 0, crop", "size must be at least 1, found 0"),
        ("lr: 2.0e-4", "lr: -1", "must be positive"),
        ("fraction: 0.01", "fraction: 1.5", r"fraction must be .*found 1\.5"),
        ("  continued: {label", "  continues: {label", "'continued' does not exist|is missing"),
        ("title: Fash", "title: [", "is not valid YAML"),
    ],
)
def test_bad_studies_say_where_and_what(tmp_path, old, new, message):
    with pytest.raises(StudyError, match=message):
        load_study(changed(tmp_path, old, new))


def test_rates_are_not_chosen_on_test_images(tmp_path):
    # through JSON, or what shares an anchor would change together
    content = json.loads(json.dumps(yaml.safe_load(Path("studies/paper.yaml").read_text())))
    path = tmp_path / "changed.yaml"
    rates = {"learning_rates": [0.1, 0.3]}
    content["paradigms"]["linear_1_held_out"]["protocol"] |= rates
    path.write_text(yaml.safe_dump(content))
    load_study(str(path))
    content["paradigms"]["linear_1"]["protocol"] |= rates
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(StudyError, match=r"linear_1\.protocol.* 2 rates .* data\.sets\.images"):
        load_study(str(path))


RELEASED = "kind: released, url: https://example.org/x.pth"


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (
            "{kind: release, path: x}",
            r"bases\.vicreg\.checkpoint\.kind: .*'release' .*shipped, released, own",
        ),
        ("{path: x}", r"bases\.vicreg\.checkpoint: the key 'kind' is missing"),
        (f"{{{RELEASED}, format: vicregg}}", r"bases\.vicreg\.checkpoint\.format: .*'vicregg'"),
        (f"{{{RELEASED}, format: swav}}", "cannot go on as method 'vicreg': set method.name to"),
        ("{kind: released, url: /x, format: vicreg}", r"checkpoint\.url: .*found '/x'"),
        (f"{{{RELEASED}, format: vicreg, sha256: abc}}", r"checkpoint\.sha256: .*found 'abc'"),
        ("{kind: own, path: x, keys: {prefixes: {}}}", "prefixes is empty"),
        (
            "{kind: own, path: x, keys: {prefix: {}}}",
            "unknown key .*prefix, did you mean 'prefixes'",
        ),
    ],
)
def test_bad_checkpoints_say_where_and_what(tmp_path, checkpoint, message):
    with pytest.raises(StudyError, match=message):
        load_study(with_checkpoint(tmp_path, checkpoint))


def with_checkpoint(tmp_path, checkpoint, **base):
    """The default study, its VICReg base from another checkpoint and without a recipe."""
    content = yaml.safe_load(Path("studies/fashion.yaml").read_text())
    content["bases"]["vicreg"] |= {"checkpoint": yaml.safe_load(checkpoint), "pretraining": None}
    content["bases"]["vicreg"] |= base
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_base_without_checkpoint_and_recipe(tmp_path):
    with pytest.raises(StudyError, match=r"bases\.vicreg: neither checkpoint nor pretraining"):
        load_study(with_checkpoint(tmp_path, "null"))


def test_converted_base_cannot_be_made_from_random_weights(tmp_path):
    study = load_study(with_checkpoint(tmp_path, f"{{{RELEASED}, format: vicreg}}"))
    assert study.bases["vicreg"].converted and not study.bases["simsiam"].converted
    with pytest.raises(ValueError, match=r"bases\.vicreg has no pretraining recipe"):
        study.training_spec(Run("vicreg", "base", 0, None))
    assert study.training_spec(Run("vicreg", "continued", 0, 0)).epochs == 1


def test_optimizer_that_nobody_saved_cannot_be_restored(tmp_path):
    recipe = yaml.safe_load(Path("studies/fashion.yaml").read_text())["bases"]["vicreg"][
        "continued"
    ]
    recipe["restore_optimizer"] = True
    with pytest.raises(StudyError, match="restore_optimizer is set, but its checkpoint holds no"):
        load_study(with_checkpoint(tmp_path, "{kind: own, path: x}", continued=recipe))
    released = f"{{{RELEASED}, format: vicreg}}"
    study = load_study(with_checkpoint(tmp_path, released, continued=recipe))
    assert study.training_spec(Run("vicreg", "e2mc", 0, 0)).restore_optimizer


def test_converted_base_has_one_seed(tmp_path):
    path = Path(with_checkpoint(tmp_path, "{kind: own, path: x}"))
    content = yaml.safe_load(path.read_text())
    content["seeds"]["base"] = [0, 1]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(StudyError, match=r"seeds\.base is \(0, 1\), but bases\.vicreg is one file"):
        load_study(str(path))


def test_formats_in_the_schema_are_those_of_the_code():
    formats = ReleasedCheckpoint.model_json_schema()["properties"]["format"]["enum"]
    assert formats == list(FORMATS)


def test_own_normalisation_and_learning_rate(tmp_path):
    content = yaml.safe_load(Path("studies/fashion.yaml").read_text())
    content["bases"]["vicreg"]["normalisation"] = {"mean": [0.5], "std": [0.25]}
    content["arms"]["continued-slow"] = {"label": "slow", "lr_factor": 0.05}
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(content))
    study = load_study(str(tmp_path / "changed.yaml"))
    slow = study.training_spec(Run("vicreg", "continued-slow", 0, 0))
    assert slow.optimizer.lr == pytest.approx(1e-5) and slow.optimizer.weight_decay == 1e-4
    assert slow.normalisation.std == (0.25,)
    assert study.training_spec(Run("simsiam", "continued", 0, 0)).normalisation.std == (0.353,)


def test_unknown_study_lists_the_known():
    with pytest.raises(StudyError, match=r"studies/fashoin\.yaml does not exist: .*fashion"):
        load_study("fashoin")


def test_study_that_extends_nothing(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: nowhere\nname: a\n")
    with pytest.raises(StudyError, match=r"nowhere\.yaml does not exist"):
        load_study(str(tmp_path / "a.yaml"))


ONE = {"mean": [0.5], "std": [0.25]}
THREE = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
LARGE = {"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}


@pytest.mark.parametrize(
    ("study", "where", "value", "message"),
    [
        ("fashion", ("data",), THREE, r"data: normalisation has 3 channels, expected 1: Fashion"),
        (
            "fashion",
            ("bases", "vicreg"),
            THREE,
            r"bases\.vicreg\.normalisation has 3 .* expected 1",
        ),
        (
            "paper",
            ("data",),
            ONE,
            r"data: normalisation has 1 channels, expected 3: images on disk",
        ),
        ("paper", ("data", "sets", "images"), ONE, r"data: sets\.images\.normalisation has 1"),
        ("paper", ("data", "sets", "voc07"), ONE, r"data: sets\.voc07\.normalisation has 1"),
        ("paper", ("bases", "simsiam"), ONE, r"bases\.simsiam\.normalisation has 1 .* expected 3"),
        ("paper", ("data",), LARGE, r"data\.normalisation: mean must be .* divide .* by 255"),
        ("paper", ("bases", "simsiam"), LARGE, r"bases\.simsiam\.normalisation: mean must be"),
    ],
)
def test_normalisations_must_fit_the_images(tmp_path, study, where, value, message):
    content = json.loads(json.dumps(yaml.safe_load(Path(f"studies/{study}.yaml").read_text())))
    part = content
    for key in where:
        part = part[key]
    part["normalisation"] = value
    path = study_file(tmp_path, yaml.safe_dump(content))
    with pytest.raises(StudyError, match=message):
        load_study(path)


def study_file(tmp_path, text, name="changed"):
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Fash", "name: other\ntitle: Fash", "line 5: key name stands in line 4 already"),
        ("tables:", "arms: {}\ntables:", r"line \d+: key arms stands in line \d+ already"),
        ("  vcreg: {label", "  e2mc: {label: x}\n  vcreg: {label", "key e2mc stands in line"),
        ("criterion: mmcr", "label: x, criterion: mmcr", "key label stands in line"),
        ("{0: 01d8", "{0x0: 'x', 0: 01d8", "key 0 stands in line"),
        ("{0: 01d8", "{'0': 'x', 0: 01d8", "key 0 stands in line"),
        (
            "continued: &continued",
            "'pretraining': 1\n  continued: &continued",
            "key pretraining st",
        ),
        ("    <<: *swav\n", "    <<: *swav\n    label: x\n", "key label stands in line"),
        (
            "  vcreg: {label",
            "  no: {label",
            "line .*: YAML reads this key as False, expected a text",
        ),
        ("  vcreg: {label", "  on: {label", "YAML reads this key as True.*quotes"),
        ("  vcreg: {label", "  ~: {label", "YAML reads this key as None"),
        ("  vcreg: {label", "  2024-05-01: {label", r"reads this key as datetime\.date"),
        ("  vcreg: {label", "  1.5: {label", r"reads this key as 1\.5"),
        ("  vcreg: {label", "  [a]: {label", "reads this key as a sequence, expected a text"),
        ("label: + VCReg", "label: 2024-13-45", "is not valid YAML: month must be in"),
        ("label: + VCReg", "label: 2024-05-01", r"arms\.vcreg\.label: .*string, found datetime"),
        ("label: + VCReg", "label: no", r"arms\.vcreg\.label: .*string, found False"),
        ("  vcreg: {label", "\tvcreg: {label", r"is not valid YAML.*indent with spaces"),
        (
            "continued: &continued",
            "continued: &continued\n    <<: *continued",
            "inside of &continued",
        ),
        (
            "  crop: &crop {",
            "  crop: &crop {a: [*crop], ",
            r"line \d+: \*crop stands inside of &crop",
        ),
        ("title: Fash", "title: \x00Fash", "is not valid YAML: unacceptable character"),
        ("title: Fash", "--- \ntitle: Fash", "is not valid YAML: expected a single document"),
    ],
)
def test_yaml_that_would_be_taken_otherwise(tmp_path, old, new, message):
    with pytest.raises(StudyError, match=message) as caught:
        load_study(changed(tmp_path, old, new))
    assert "changed.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_anchors_and_merges_go_on_working(tmp_path):
    old = '    {label: "E2MC, 3 epochs", variant_of: e2mc,'
    new = (
        "    {<<: [&a {label: x, lr_factor: 0.1}, {label: y}], <<: *a, label: z, variant_of: e2mc,"
    )
    study = load_study(changed(tmp_path, old, new))
    arm = study.arms["e2mc-epochs-3"]
    assert (arm.label, arm.lr_factor, arm.epochs) == ("z", 0.1, 3)
    # what overrides a merged key stands once; merging it again into a third is no repetition
    assert study.bases["swav_long"].label == "SwAV (long)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: expected keys and values"),
        (b"# nothing\n---\n", "is empty: expected keys and values"),
        (b"- name: x\n", "expected keys and values at the top, found a list"),
        (b"just words\n", "expected keys and values at the top, found a str"),
        ("name: x\ntitle: é\n".encode("latin-1"), "line 2 is not UTF-8: save the file as UTF-8"),
        ("name: x".encode("utf-16"), "line 1 is not UTF-8"),
        (b"[" * 5000, "is not valid YAML"),
    ],
)
def test_files_that_are_no_study(tmp_path, content, message):
    path = study_file(tmp_path, content)
    with pytest.raises(StudyError, match=message):
        load_study(path)
    name = "extending"
    with pytest.raises(StudyError, match=message):
        load_study(study_file(tmp_path, "extends: changed", name))


def test_byte_order_mark(tmp_path):
    text = Path("studies/fashion.yaml").read_bytes()
    assert load_study(study_file(tmp_path, b"\xef\xbb\xbf" + text)).name == "fashion"


def test_studies_that_extend_each_other(tmp_path):
    one = study_file(tmp_path, "extends: two", "one")
    study_file(tmp_path, "extends: three", "two")
    study_file(tmp_path, "extends: two", "three")
    circle = r"one\.yaml extends .*two\.yaml extends .*three\.yaml extends .*two\.yaml: a circle"
    with pytest.raises(StudyError, match=circle):
        load_study(one)
    with pytest.raises(StudyError, match=r"self\.yaml extends .*self\.yaml: a circle"):
        load_study(study_file(tmp_path, "extends: self", "self"))
    (tmp_path / "other.yaml").symlink_to(tmp_path / "linked.yaml")
    with pytest.raises(StudyError, match=r"linked\.yaml extends .*other\.yaml: a circle"):
        load_study(study_file(tmp_path, "extends: other", "linked"))
    for name in ("[a, b]", "null", "other.yaml", "3"):
        path = study_file(tmp_path, f"extends: {name}", "bad")
        with pytest.raises(
            StudyError, match=r"extends: .*does not exist: give the name of a study"
        ):
            load_study(path)


def test_arms_that_are_variants_of_each_other(tmp_path):
    old = "variant_of: e2mc, params: {covariance_weight: 0.0}"
    for new, message in (
        (
            "variant_of: e2mc-entropy-only",
            "e2mc-entropy-only is a variant of e2mc-entropy-only: give",
        ),
        (
            "variant_of: e2mc-covariance-only",
            "e2mc-entropy-only is a variant of e2mc-covariance-only is a variant of e2mc-entropy-o",
        ),
    ):
        path = changed(tmp_path, old, new)
        text = Path(path).read_text()
        if "covariance-only" in new:
            text = text.replace("variant_of: e2mc, params: {entropy_weight: 0.0}", "variant_of: x")
            Path(path).write_text(text.replace("variant_of: x", "variant_of: e2mc-entropy-only"))
        with pytest.raises(StudyError, match=message):
            load_study(path)


def test_keys_that_stand_twice_in_the_configuration(tmp_path, monkeypatch):
    text = Path("config.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text + "device: cpu\n")
    message = r"config\.yaml: line \d+: key device stands in line \d+ already"
    with pytest.raises(StudyError, match=message):
        read_config()
    # Snakemake has read it already and taken the last
    with pytest.raises(StudyError, match=message):
        load_config(yaml.safe_load(Path("config.yaml").read_text()))
    Path("config.yaml").write_text("")
    with pytest.raises(StudyError, match=r"config\.yaml is empty"):
        read_config()


def test_config():
    assert load_config({"study": "smoke"}).launcher == "local"
    with pytest.raises(StudyError, match="launcher: .*found 'slrum'"):
        load_config({"study": "smoke", "launcher": "slrum"})


@pytest.mark.parametrize(("name", "model"), [("study", Study), ("config", Config)])
def test_schema_files_are_up_to_date(name, model):
    path = Path(f"workflow/schemas/{name}.json")
    made = json.dumps(model.model_json_schema(), indent=2) + "\n"
    assert path.read_text() == made, f"run `e2mc schema --of {name} > {path}`"


def content_of(name, change):
    """A study's content as plain values, after a change."""
    content = load_study(name).model_dump(mode="json")
    change(content)
    return content


def test_an_arm_may_change_the_objective():
    er = load_study("er")
    spec = er.training_spec(Run("swav_long", "er-objective", 0, 0))
    assert spec.criteria == () and spec.method.params["objective"] == "er"
    assert spec.method.params["queue_length"] == 1024
    plain = er.training_spec(Run("swav_long", "continued", 0, 0))
    assert "objective" not in plain.method.params


def test_momentum_is_that_of_the_target_network():
    er = load_study("er")
    assert er.momentum("byol-own-e50") == 0.5 and er.momentum("dino-er") == 0.99
    assert er.momentum("simclr-own") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["stability"].update(ema=["simclr-own"]), "simclr-own has no target network"),
        (lambda c: c["stability"].update(column="linear_2"), "stability.column.*linear_2"),
        (lambda c: c["information"].update(bases=["moco"]), "information.bases: base 'moco'"),
        (
            lambda c: c["arms"]["er-objective"].update(method_params={"objectiv": "er"}),
            "arms.er-objective.method_params .*'objectiv' does not exist",
        ),
        (
            lambda c: c["information"]["instrument"].update(images=1),
            "images must be at least 2",
        ),
    ],
)
def test_what_er_studies_may_not_say(change, message):
    with pytest.raises(ValueError, match=message):
        Study.model_validate(content_of("er", change))


@pytest.mark.parametrize(
    ("recipe", "smallest"),
    [
        ({}, 256),
        ({"micro_batches": 4}, 64),
        ({"images": 16400}, 256),
        ({"images": 16400, "drop_last": False}, 16),
        # the last 10 images get 2 more, so that the parts are equal
        ({"images": 16394, "drop_last": False, "micro_batches": 4}, 3),
        ({"images": 16384, "drop_last": False}, 256),
        ({"images": None, "drop_last": False}, 55000 % 256),
        ({"images": 100, "drop_last": False}, 100),
    ],
)
def test_window_fits_the_smallest_batch(recipe, smallest):
    def study_with(window):
        def change(content):
            content["bases"]["vicreg"]["continued"] |= recipe
            # the only arm with a window, for the base that has the recipe
            content["arms"]["e2mc-window-64"]["params"] = {}
            content["arms"]["e2mc-window-4"]["params"] = {}
            content["arms"]["e2mc-window-64"]["base_params"] = {"vicreg": {"window": window}}

        return Study.model_validate(content_of("fashion", change))

    study_with(smallest - 1)
    with pytest.raises(ValueError, match=f"window of {smallest} .*has {smallest}"):
        study_with(smallest)


def test_window_fits_the_images_on_disk():
    def change(content):
        content["arms"]["e2mc"]["base_params"] = {"vicreg": {"window": 200}}

    paper = load_study("paper")
    images = paper.data.sets["images"]
    assert paper.data.training_count == images.train - images.validation
    recipe = paper.bases["vicreg"].continued
    last = paper.data.training_count % recipe.batch_size
    assert not recipe.drop_last and recipe.augmentation_streams == 1 and last == 143
    with pytest.raises(ValueError, match="a window of 200 .*has 143"):
        Study.model_validate(content_of("paper", change))


def test_stages_share_a_folder_and_their_jobs():
    paper, *_ = stages = [load_study("paper"), *load_stages(load_study("paper"))]
    assert [stage.name for stage in stages[1:]] == list(paper.stages)
    run = Run("swav_800", "e2mc", 0, 0)
    for stage in stages:
        assert stage.folder == "paper" and stage.root == Path("results/paper")
        assert stage.result_path(run, "linear_1") == paper.result_path(run, "linear_1")
        # a job of other outputs would be done again
        assert stage.evaluation_jobs() == paper.evaluation_jobs()
        assert stage.training_spec(run) == paper.training_spec(run)
    assert load_study("fashion").folder == "fashion" and load_stages(load_study("fashion")) == []


def test_stages_lie_beside_a_study_that_is_a_file(tmp_path):
    for name in ("paper", "paper-first"):
        (tmp_path / f"{name}.yaml").write_bytes(Path(f"studies/{name}.yaml").read_bytes())
    path = tmp_path / "paper.yaml"
    path.write_text(re.sub("^stages: .*$", "stages: [paper-first]", path.read_text(), flags=re.M))
    [first] = load_stages(load_study(str(path)))
    assert (first.source, first.name) == (str(tmp_path / "paper-first.yaml"), "paper-first")


def test_passes_of_their_own_are_jobs_of_their_own_on_disk():
    paper = load_study("paper")
    jobs = paper.evaluation_jobs()
    assert jobs["evaluate_frozen_linear_1"] == ("linear_1", "linear_10")
    assert jobs["evaluate_frozen_linear_100"] == ("linear_100",)
    assert jobs["evaluate_frozen_voc07"] == ("voc07_map",)


def test_other_data_sets_share_the_job_that_fine_tunes_in_memory():
    jobs = load_study("fashion").evaluation_jobs()
    linear = ("linear_1", "linear_10", "linear_100")
    assert jobs == {
        "evaluate_frozen": ("knn", *linear, "separability", "embeddings"),
        "evaluate_fine_tuned_and_transfer": (
            "semisup_1",
            "semisup_10",
            "digits_top1",
            "outfits_map",
        ),
        "measure_information": ("information",),
    }
    content = yaml.safe_load(Path("studies/fashion.yaml").read_text())
    alone = {
        "evaluate_frozen": (
            ("knn", *linear, "digits_top1", "outfits_map", "separability", "embeddings")
        ),
        "measure_information": ("information",),
    }
    one = Study.model_validate(content | {"one_job": True}).evaluation_jobs()
    assert one == alone | {"evaluate_fine_tuned": ("semisup_1", "semisup_10")}
    for name in ("semisup_1", "semisup_10"):
        del content["paradigms"][name]
        content["tables"]["table1"]["columns"].remove(name)
    assert Study.model_validate(content).evaluation_jobs() == alone


def test_rates_of_the_paper_are_those_its_bases_ended_with():
    paper = load_study("paper")
    rates = {
        base: [
            paper.training_spec(Run(base, arm, 0, 0)).optimizer.lr
            for arm in ("continued", "e2mc-short", "continued-short-x10", "continued-short-x100")
        ]
        for base in paper.bases
    }
    ended = {"vicreg": 4e-4, "swav_400": 6e-4, "swav_800": 6e-4, "simsiam": 2.5e-5}
    for base, lr in ended.items():
        assert rates[base] == pytest.approx([lr, lr, 10 * lr, 100 * lr])
    fast = paper.training_spec(Run("simsiam", "continued-short-x100", 0, 0))
    assert fast.optimizer.group_lr == {"predictor": 0.1}


def test_an_arm_may_be_compared_with_the_base():
    arm = {"label": "short", "reference": "base"}
    content = content_of("fashion", lambda content: content["arms"].update(short=arm))
    assert Study.model_validate(content).arms["short"].reference == "base"
