import re
from pathlib import Path

import pytest

from e2mc.cli import main


@pytest.fixture(autouse=True)
def in_copy(tmp_path, monkeypatch):
    """A folder with the studies and nothing else."""
    (tmp_path / "studies").symlink_to(Path(__file__).parents[1] / "studies")
    monkeypatch.chdir(tmp_path)


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
    ],
)
def test_bad_input_is_one_sentence(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


@pytest.mark.parametrize("command", ["data", "pretrain", "continue", "evaluate", "where"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage: e2mc" in capsys.readouterr().out
