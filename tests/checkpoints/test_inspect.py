"""What is said of a file."""

import pytest

from e2mc.checkpoints.inspect import inspect_checkpoint


@pytest.mark.parametrize("name", ["vicreg", "swav", "simsiam"])
def test_inspect_released(name, save):
    summary = inspect_checkpoint(save(name))
    assert summary["format"] == [name]
    assert summary["epochs"] == {"vicreg": 1000, "swav": None, "simsiam": 100}[name]
    assert summary["size"] > 10_000 and len(summary["sha256"]) == 64
    assert sum(summary["prefixes"].values()) == summary["tensors"]


def test_inspect_own_format(save, tmp_path, convert):
    convert(save("vicreg"), "vicreg").save(tmp_path / "x.pt")
    summary = inspect_checkpoint(tmp_path / "x.pt")
    assert (summary["format"], summary["method"], summary["epochs"]) == ("e2mc-1", "vicreg", 1000)
    assert summary["optimizer"] is True and summary["provenance"]["released"] == "vicreg"
