"""All that a study needs from the internet, from a server on loopback."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from serving import serving

from e2mc.cli import main
from e2mc.study import load_study

REPOSITORY = Path(__file__).parents[2]
BASES = ("vicreg", "swav_400", "swav_800", "simsiam")
LISTS = ("1percent", "10percent")
ALL = ["checkpoint", "download", "--all", "--study", "small"]


def content(name):
    return f"what was published as {name}\n".encode()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with the paper's study as of the address of a server, whose folder is returned."""
    served, here = tmp_path / "served", tmp_path / "here"
    served.mkdir()
    (here / "studies").mkdir(parents=True)
    for name in (*BASES, *LISTS):
        (served / name).write_bytes(content(name))
    monkeypatch.chdir(here)
    with serving(served) as address:
        digests = {name: hashlib.sha256(content(name)).hexdigest() for name in LISTS}
        lists = {
            name: {"source": f"{address}/{name}", "sha256": digest}
            for name, digest in digests.items()
        }
        bases = {name: {"checkpoint": {"url": f"{address}/{name}"}} for name in BASES}
        sets = {"images": {"lists": lists}, "held_out": {"lists": lists}}
        study = {"extends": "paper", "name": "small", "data": {"sets": sets}, "bases": bases}
        Path("studies/small.yaml").write_text(yaml.safe_dump(study))
        Path("studies/paper.yaml").symlink_to(REPOSITORY / "studies/paper.yaml")
        yield served


def paths():
    root = Path("results/small")
    checkpoints = {name: root / f"bases/{name}/released.pth" for name in BASES}
    return checkpoints | {name: root / f"data/downloads/{name}.txt" for name in LISTS}


def test_everything_is_fetched_and_recorded(published, capsys):
    assert main(ALL) == 0
    printed = capsys.readouterr().out
    for name, path in paths().items():
        assert path.read_bytes() == content(name)
        digest = hashlib.sha256(content(name)).hexdigest()
        record = json.loads(path.with_name(f"{path.name}.source.json").read_text())
        assert (record["sha256"], record["size"]) == (digest, len(content(name)))
        assert f"{path}: {len(content(name))} bytes, SHA-256 {digest}" in printed
        # the published SHA-256 of the lists is known
        said = f"{path}: first download, recorded: {digest}" in printed
        assert said == (name in BASES)


def test_what_is_there_needs_no_internet(published, capsys):
    assert main(ALL) == 0
    for file in published.iterdir():
        file.unlink()
    capsys.readouterr()
    assert main(ALL) == 0
    assert "first download" not in capsys.readouterr().out


def test_one_that_is_missing_does_not_keep_the_others_from_coming(published, capsys):
    (published / "vicreg").unlink()
    assert main(ALL) == 1
    assert "the server answers 404" in capsys.readouterr().out
    here = [name for name, path in paths().items() if path.exists()]
    assert here == [name for name in (*BASES, *LISTS) if name != "vicreg"]


def test_json_is_nothing_but_json(published, capsys):
    """What a step says as it goes, such as the first download, goes to standard error."""
    assert main([*ALL, "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert [Path(file["file"]) for file in told["files"]] == list(paths().values())
    assert told["errors"] == [] and "first download, recorded" in captured.err


def test_study_that_downloads_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "studies").symlink_to(REPOSITORY / "studies")
    monkeypatch.chdir(tmp_path)
    assert main(["checkpoint", "download", "--all", "--study", "fashion"]) == 1
    assert "study fashion has no released checkpoint" in capsys.readouterr().err


def test_all_or_one_base(capsys):
    for choice in ([], ["--all", "--base", "vicreg"]):
        with pytest.raises(SystemExit) as stopped:
            main(["checkpoint", "download", "--study", "paper", *choice])
        assert stopped.value.code == 2


def test_lists_of_two_data_sets_are_one_file():
    from e2mc.steps.data import published_lists

    study = load_study(str(REPOSITORY / "studies/paper.yaml"))
    assert [path.name for path in published_lists(study)] == ["1percent.txt", "10percent.txt"]
