import os
from pathlib import Path

import pytest

from e2mc.cluster.caches import HERE, give_caches


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null", "~"])
def test_caches_go_to_the_checkout_where_the_home_cannot_be_written(home, monkeypatch):
    monkeypatch.setenv("HOME", home)
    give_caches()
    assert Path(os.environ["XDG_CACHE_HOME"]) == HERE.resolve()
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(HERE.resolve())


def test_caches_stay_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    give_caches()
    assert "XDG_CACHE_HOME" not in os.environ and "MPLCONFIGDIR" not in os.environ
