from __future__ import annotations

from e2mc.reporting.published import Published, published_table


def test_numbers_of_the_paper():
    first, second = published_table(1), published_table(2)
    assert len(first) == 64 and len(second) == 18
    assert first["vicreg", "base", "semisup_1"] == Published(54.53, 0.12, "*")
    assert first["vicreg", "base", "linear_100"] == Published(73.20, None, "†")
    assert second["swav_800", "mmcr", "linear_1"] == Published(53.30, 0.02, "")


def test_both_tables_agree_where_they_overlap():
    first, second = published_table(1), published_table(2)
    assert all(first[key] == second[key] for key in first.keys() & second.keys())
