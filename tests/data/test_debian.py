"""Packages of Debian are fetched one after the other, with the machine's lists or own ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2mc.data import debian


@pytest.fixture
def apt(monkeypatch):
    """Commands that were run; packages are there unless lists are asked for."""
    commands, known = [], {"one", "two"}

    def run(command, cwd=None):
        commands.append(command)
        if "download" in command:
            if command[-1] not in known:
                raise OSError(f"Unable to locate package {command[-1]}")
            Path(cwd, f"{command[-1]}_1.0_all.deb").touch()
        if "update" in command:
            known.add("three")

    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "quietly", run)
    return commands


def test_packages_are_named_with_their_files(apt, tmp_path):
    found = list(debian.packages(["one", "two"], tmp_path))
    assert found == [(name, tmp_path / f"{name}_1.0_all.deb") for name in ("one", "two")]
    assert [command[1:] for command in apt] == [
        ["download", "-qq", "one"],
        ["download", "-qq", "two"],
    ]


def test_own_lists_are_fetched_once(apt, tmp_path):
    assert [name for name, _ in debian.packages(["three", "one"], tmp_path)] == ["three", "one"]
    assert sum("update" in command for command in apt) == 1
    assert all(f"Dir::State::Lists={tmp_path}/lists" in command for command in apt[1:])


def test_package_that_there_is_not(apt, tmp_path):
    with pytest.raises(OSError, match="Unable to locate package four"):
        list(debian.packages(["one", "four"], tmp_path))


def test_machine_without_apt(monkeypatch, tmp_path):
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="no apt-get"):
        next(debian.packages(["one"], tmp_path))


def test_command_that_fails_is_named_with_its_last_line():
    with pytest.raises(OSError, match=r"`sh -c echo a; echo b; exit 3` failed: b"):
        debian.quietly(["sh", "-c", "echo a; echo b; exit 3"])
