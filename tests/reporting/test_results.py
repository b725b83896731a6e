from __future__ import annotations

import json

import pandas as pd
import pytest

from e2mc.reporting.results import (
    COLUMNS,
    ResultError,
    collect,
    read_result,
    select,
)


def test_one_sorted_row_per_score_whatever_the_order(write_results):
    paths = write_results(lambda run, paradigm, features: 50.0)
    frame = collect(paths)
    pd.testing.assert_frame_equal(frame, collect(paths[::-1] + paths[:1]))
    assert tuple(frame.columns) == COLUMNS
    # 2 bases x (1 + 2 x 3) runs; linear: 2 kinds of features x 2 subsets, the others: one
    assert len(frame) == 2 * 7 * (2 * 2 + 1 + 1) * 4
    assert frame["continuation_seed"].isna().sum() == 2 * 6 * 4


def test_no_files_give_an_empty_frame():
    assert collect([]).empty


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ResultError, match=r"gone\.json: cannot be read .*: run its target"):
        collect([tmp_path / "gone.json"])


@pytest.mark.parametrize("content", ['{"study": "tiny", ', "\x00", "[1, 2]", "{}"])
def test_what_is_no_result_is_named(tmp_path, content):
    path = tmp_path / "half.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ResultError, match=r"half\.json: is (not JSON|no result).*run again"):
        collect([path])


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"high"', "null"])
def test_a_score_must_be_a_finite_number(write_results, value):
    path = write_results(lambda *_: 50.0)[0]
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"value": 49.5', f'"value": {value}', 1), encoding="utf-8")
    with pytest.raises(ResultError, match="score top1 must be a finite number"):
        collect([path])


def test_a_score_without_a_split_is_refused(write_results):
    path = write_results(lambda *_: 50.0)[0]
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["scores"][0]["split"]
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ResultError, match="a score lacks split"):
        collect([path])


def test_the_same_score_twice_is_refused(write_results, tmp_path):
    path = write_results(lambda *_: 50.0)[0]
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(ResultError, match="more than once, also in"):
        collect([path, copy])


@pytest.mark.parametrize("key", ["code", "decided_by"])
@pytest.mark.parametrize("content", [None, "0" * 12])
def test_a_result_says_what_decided_it_and_its_code(write_results, key, content):
    [path, *_] = write_results(lambda *_: 50.0)
    record = json.loads(path.read_text(encoding="utf-8")) | {key: content}
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ResultError, match=rf"is no result, {key} is missing: delete it and run"):
        read_result(path)


def test_a_row_has_a_digest_of_its_code_and_the_frame_has_the_files(study, write_results):
    codes = [{"a.py": "1", "b.py": "1"}, {"b.py": "1", "a.py": "2"}]
    runs = study.runs(study.tables["main"].rows)
    paths = write_results(lambda *_: 50.0, runs=runs[:1], code=codes[0])
    paths += write_results(lambda *_: 50.0, runs=runs[1:], code=codes[1])
    frame = collect(paths)
    assert frame["code"].str.fullmatch("[0-9a-f]{12}").all()
    assert [frame.attrs["code"][code] for code in frame["code"].unique()] == codes[::-1]
    assert select(study, frame, study.tables["main"].rows, ["linear_1"], [0]).attrs == frame.attrs
