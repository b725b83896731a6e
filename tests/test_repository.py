"""What a repository has beside its code: hooks, templates, citation, changelog."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import e2mc

REPOSITORY = Path(__file__).parents[1]
FORMS = sorted((REPOSITORY / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(name):
    return yaml.safe_load((REPOSITORY / name).read_text())


def test_hooks_are_what_lint_runs():
    planned = subprocess.run(
        ["make", "--dry-run", "lint"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    tools = ("ruff", "mypy", "snakefmt", "snakemake")
    parts = [part.strip() for line in planned.splitlines() for part in line.split("&&")]
    linted = [part for part in parts if part.startswith(tools)]
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == linted and len(linted) == 5
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_hooks_are_valid():
    pre_commit = shutil.which("pre-commit")
    if pre_commit is None:
        pytest.skip("pre-commit is not installed: it is in the lock, run `make env`")
    config = str(REPOSITORY / ".pre-commit-config.yaml")
    done = subprocess.run([pre_commit, "validate-config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_form_has_what_a_form_needs(path):
    form = yaml.safe_load(path.read_text())
    assert form.keys() == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) and any(
        field.get("validations", {}).get("required") for field in form["body"]
    )
    assert all(
        field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"]
    )


def test_there_are_templates():
    assert len(FORMS) == 3
    text = (REPOSITORY / ".github/pull_request_template.md").read_text()
    assert text.count("- [ ] ") == 5


def test_citation_has_what_the_format_demands():
    """The keys, types and formats of version 1.2.0 that this file uses."""
    citation = read("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    assert isinstance(citation["version"], str) and citation["license"] == "MIT"
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        assert reference["type"] == "conference-paper" and isinstance(reference["year"], int)
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", reference["url"])
        assert all(
            author.keys() == {"family-names", "given-names"} for author in reference["authors"]
        )


def test_citation_validates():
    # it wants a jsonschema that Snakemake does not, and is in no environment of this project
    cffconvert = shutil.which("cffconvert")
    if cffconvert is None:
        pytest.skip("cffconvert is not installed: it wants an environment of its own")
    file = str(REPOSITORY / "CITATION.cff")
    done = subprocess.run(
        [cffconvert, "--validate", "--infile", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_newest_entry_of_the_changelog_is_this_version():
    entries = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert entries[0] == e2mc.__version__
