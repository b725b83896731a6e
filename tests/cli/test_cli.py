import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2mc import progress
from e2mc.cli import main, make_parser
from e2mc.steps import evaluation
from e2mc.study import Run, load_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_copy(tmp_path, monkeypatch):
    """A folder with the studies, the configuration and nothing else."""
    for name in ("studies", "config.yaml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)


def commands(parser=None, before=()):
    """Every command with its parser, those of groups included."""
    for action in (parser or make_parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, found in action.choices.items():
                inner = list(commands(found, (*before, name)))
                yield from inner or [((*before, name), found)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["where"], "results/fashion has no tables yet"),
        (["where", "--study", "fashoin"], "study file studies/fashoin.yaml does not exist"),
        (["pretrain", "--base", "vicrag"], "base 'vicrag' does not exist, expected one of vicreg"),
        (["continue", "--base", "vicreg", "--arm", "e2"], "arm 'e2' does not exist"),
        (["continue", "--base", "vicreg", "--arm", "base"], "use `e2mc pretrain`"),
        (["continue", "--base", "vicreg", "--arm", "e2mc"], "shipped checkpoint .* is missing"),
        (["pretrain", "--base", "vicreg"], "run `e2mc data --study fashion` first"),
        (
            ["evaluate", "--base", "vicreg", "--arm", "base", "--paradigm", "linear_2"],
            "paradigm 'linear_2' does not exist",
        ),
        (["table", "table9"], "table 'table9' does not exist, expected one of table1, table2"),
        (["table", "table1"], r"no result of table1 is there \(e.g. results/fashion/evaluations/"),
        (["separability", "--base", "swav_long", "--arm", "base"], "checkpoint .* is missing"),
        (
            ["separability", "--study", "smoke", "--base", "swav_long", "--arm", "base"],
            "images.pt does not exist: run `e2mc data --study smoke` first",
        ),
        (
            ["separability", "--study", "paper", "--base", "vicreg", "--arm", "base"],
            "images.pt does not exist: run `e2mc check-data --study paper` first",
        ),
        (["checkpoint", "inspect", "nothing.pt"], "nothing.pt does not exist"),
        (["checkpoint", "download", "--base", "vicreg"], "is no released checkpoint"),
        (["checkpoint", "convert", "--base", "vicreg"], "needs no conversion"),
        (
            ["checkpoint", "convert", "--study", "paper", "--base", "vicreg"],
            "released.pth does not exist: run `e2mc checkpoint download --study paper",
        ),
        (["check-data"], "study fashion has no images on disk: nothing to check"),
        (["check-data", "--study", "paper"], "set data_folders.imagenet in config.yaml"),
        (["estimate", "--rate", "vicreg=9"], "estimates are of studies with data on disk"),
        (["estimate", "--study", "paper", "--rate", "vicreg=9"], "no rate for"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


def configure(old, new):
    """The folder's config.yaml with another line."""
    text = Path("config.yaml").read_text()
    assert old in text
    Path("config.yaml").unlink()
    Path("config.yaml").write_text(text.replace(old, new))


def test_base_is_the_one_that_the_configuration_names(capsys):
    trained = load_study("fashion").trained_path(Run("vicreg", "base", 0, None))
    trained.parent.mkdir(parents=True)
    trained.touch()
    command = ["continue", "--base", "vicreg", "--arm", "e2mc"]
    assert main(command) == 1
    assert "shipped checkpoint checkpoints/fashion/vicreg" in capsys.readouterr().err
    configure("base_checkpoints: shipped", "base_checkpoints: retrain")
    assert main(command) == 1
    assert "run `e2mc data --study fashion` first" in capsys.readouterr().err


def test_data_come_from_the_folder_of_the_configuration(capsys):
    configure("fashion-mnist: null", "fashion-mnist: here")
    assert main(["data"]) == 1
    assert "error: here is not a folder" in capsys.readouterr().err
    assert main(["data", "--folder", "there"]) == 1
    assert "error: there is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "parser"), [pytest.param(*found, id=" ".join(found[0])) for found in commands()]
)
def test_every_command_has_help_with_an_example_that_parses(words, parser, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: e2mc {' '.join(words)}")
    example = re.search(r"example:\n  (.+)", text).group(1)
    called = re.search(rf"e2mc ({' '.join(words)}[^\")]*)", example).group(1)
    assert make_parser().parse_args(called.split()).command is parser.get_default("command")


def test_wrong_usage_is_status_2(capsys):
    estimate = ["estimate", "--rate", "vicreg"]
    for arguments in ([], ["nonsense"], ["continue"], ["checkpoint"], estimate):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert "required" in capsys.readouterr().err


def test_interruption_is_status_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("e2mc.study.load_study", interrupted)
    assert main(["where"]) == 130
    assert "goes on from the last saved state" in capsys.readouterr().err


def test_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "e2mc.reporting.results", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert main(["table", "table1"]) == 1
    assert "pip install 'e2mc[workflow]'" in capsys.readouterr().err


def test_head_of_the_output_is_no_error():
    command = f"{sys.executable} -m e2mc.cli schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "{\n0\n" and done.stderr == ""


@pytest.fixture
def some_results(tmp_path):
    """Results of one cell of table 1, of the three seeds."""
    study = load_study("fashion")
    for run in study.runs(study.tables["table1"].rows):
        if run.base != "vicreg":
            continue
        score = {"metric": "top1", "features": "raw", "selection": "last", "split": "test"}
        record = {
            "study": "fashion",
            "base": run.base,
            "arm": run.arm,
            "base_seed": run.base_seed,
            "continuation_seed": run.continuation_seed,
            "paradigm": "linear_1",
            "scores": [score | {"probe_seed": 0, "value": 80.0 + (run.arm == "e2mc")}],
            "decided_by": evaluation.decided_by(study, run, "linear_1"),
            "code": {"evaluation": "0" * 12},
            "device": "cpu",
            "wall_seconds": 1.0,
            "peak_memory_mb": 1.0,
        }
        path = tmp_path / study.result_path(run, "linear_1")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record))


def test_table_from_what_is_there(some_results, capsys):
    assert main(["table", "table1"]) == 0
    printed = capsys.readouterr().out
    assert "81.00 ± 0.00" in printed and "not run" in printed
    assert printed.strip() == Path("results/fashion/tables/table1.md").read_text().strip()
    assert main(["table", "table1", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("base,arm,column")
    assert main(["table", "table1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    cell = next(c for c in told["cells"] if (c["arm"], c["column"]) == ("e2mc", "linear_1"))
    assert (cell["mean"], cell["difference"]) == (81.0, 1.0)
    assert sorted(told["files"]) == ["csv", "html", "md", "tex"]
    assert main(["where", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["results/fashion/tables/table1.md"]


def test_result_of_another_weight_is_not_shown(some_results, capsys):
    path = load_study("fashion").result_path(Run("vicreg", "e2mc", 0, 1), "linear_1")
    record = json.loads(path.read_text())
    record["decided_by"]["training"]["criteria"][0]["params"]["entropy_weight"] = 7.0
    path.write_text(json.dumps(record))
    assert main(["table", "table1"]) == 1
    error = capsys.readouterr().err
    assert f"{path} was made with training.criteria.0.params.entropy_weight 7.0, the" in error
    assert error.count("\n") == 1 and not Path("results/fashion/tables").exists()


def test_report_needs_a_finished_study(tmp_path, capsys):
    (tmp_path / "Snakefile").write_text("rule all:\n    input: 'nothing.txt'\n")
    assert main(["report"]) == 1
    error = capsys.readouterr().err
    assert "the report of fashion could not be made, is `snakemake all` finished?" in error
    assert not Path("results/fashion/report.html").exists()


def test_estimate(capsys):
    rates = ["vicreg=900", "swav=500", "simsiam=900", "features=3000", "fine-tuning=1500"]
    assert main(["estimate", "--study", "paper", "--rate", *rates, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rates"] == "given, not measured"
    costs = {row["table"]: row["GPU-hours"] for row in told["rows"] if not row["base"]}
    assert 0 < costs["sweep"] < costs["together"] < costs["everything"]
    # a later stage computes some features of an earlier one again, such as the test images'
    stages = costs["stage paper-first"] + costs["stage paper"]
    assert costs["together"] <= stages < 1.001 * costs["together"]
    assert costs["stage paper-er"] is None and "no rate for byol" in told["unknown"][0]


def test_inspect(capsys):
    file = str(REPOSITORY / "checkpoints/fashion/vicreg-base0.pt")
    assert main(["checkpoint", "inspect", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["method"], found["epochs"]) == ("e2mc-1", "vicreg", 40)
    assert main(["checkpoint", "inspect", file]) == 0
    assert re.search(r"^backbone +resnet-small$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(words[-1] in script for words, _ in commands())
    if shell == "bash":
        line = 'COMP_WORDS=(e2mc doc); COMP_CWORD=1; _shtab_e2mc; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True)
        assert done.stdout.split() == ["doctor"], done.stderr


def test_first_signal_asks_to_stop_and_the_second_one_stops():
    with progress.stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert progress.stop_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert not progress.stop_requested()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
