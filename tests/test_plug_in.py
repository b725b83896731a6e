"""The example in docs/plug-in.md runs and learns."""

from pages import DOCS, blocks


def test_example_trains():
    [code] = blocks(DOCS / "plug-in.md", "python")
    names = {}
    exec(compile(code, "docs/plug-in.md", "exec"), names)
    assert names["out"].terms["entropy"] > -0.15
    assert names["accuracy"] > 0.9
