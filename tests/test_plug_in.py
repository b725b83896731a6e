"""The example in docs/plug-in.md runs and learns."""

from __future__ import annotations

import re
from pathlib import Path


def test_example_trains():
    text = (Path(__file__).parents[1] / "docs/plug-in.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names = {}
    exec(compile(code, "docs/plug-in.md", "exec"), names)
    assert names["out"].terms["entropy"] > -0.15
    assert names["accuracy"] > 0.9
