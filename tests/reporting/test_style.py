from __future__ import annotations

from matplotlib.figure import Figure

from e2mc.methods import METHODS
from e2mc.reporting.style import COLOURS, curve_legend, curve_look, look, save_figure


def test_files_are_the_same_bytes_each_time(tmp_path):
    for folder in ("first", "second"):
        figure = Figure()
        figure.subplots().plot([0, 1], [1, 0])
        (tmp_path / folder).mkdir()
        names = ("curve.pdf", "curve.png")
        save_figure(figure, {name: tmp_path / folder / name for name in names}, "curve")
    for kind, start in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        first, second = (tmp_path / f"{name}/curve.{kind}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes().startswith(start)


def test_arms_look_different(study):
    looks = [look(study, arm) for arm in ("base", *study.arms)]
    assert len(set(looks)) == len(looks)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_every_method_has_a_look_and_a_name(monkeypatch):
    class New:
        pass

    monkeypatch.setitem(METHODS, "new", New)
    looks = [curve_look(method, objective) for method in METHODS for objective in ("own", "er")]
    assert len(set(looks)) == len(looks)
    handles = curve_legend({"new", "byol"})
    assert [handle.get_label() for handle in handles] == ["BYOL", "New", "own objective", "ER"]
