"""A task as one value: plain, compared in words, performed by its step."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2mc.errors import InputError
from e2mc.task import SHOWN, Task, differences, flat, listed, plain


@dataclass(frozen=True)
class Protocol:
    rates: tuple[float, ...] = (0.1, 1.0)
    name: str = "sgd"


def task_with(decides=None, code=None, **changes):
    values = {
        "step": "test_task:no_step",
        "arguments": {"study": "smoke", "folder": Path("data")},
        "inputs": {"images": Path("data/images.pt")},
        "outputs": {"checkpoint": Path("out/checkpoint.pt"), "log": Path("out/training.csv")},
        "decides": {"epochs": 1} if decides is None else decides,
        "code": {"optim.py": "1", "data/views.py": "2"} if code is None else code,
    }
    return Task.of(**values | changes)


def test_values_are_plain():
    task = task_with({"protocol": Protocol(), "views": (Protocol("x"),), "folder": Path("a/b")})
    assert task.decides == {
        "protocol": {"rates": [0.1, 1.0], "name": "sgd"},
        "views": [{"rates": "x", "name": "sgd"}],
        "folder": "a/b",
    }
    assert task.arguments == {"study": "smoke", "folder": "data"}
    assert task.inputs == {"images": "data/images.pt"}
    assert task.input("images") == Path("data/images.pt")
    assert task.output("log") == Path("out/training.csv")
    assert task.name == "no_step"


def test_plain_leaves_plain_values_and_names_keys_in_text():
    values = {"a": [1, 2.5, None, True, "text"], "b": {"c": {}}}
    assert plain(values) == values
    assert plain({0: (), None: Path("x")}) == {"0": [], "None": "x"}
    assert plain(Protocol) is Protocol  # a class is no value


def test_task_survives_json():
    task = task_with({"protocol": Protocol()})
    assert Task(**json.loads(json.dumps(task.as_values()))) == task


def test_names_of_flat_values():
    values = {
        "epochs": 1,
        "rates": [0.1, 1.0],
        "criteria": [{"name": "e2mc", "params": {"window": 8}}, {"name": "er", "params": {}}],
        "none": {},
        "empty": [],
        "scales": [[0.1, 1.0], [0.2, 1.0]],
    }
    assert dict(flat(values)) == {
        "epochs": 1,
        "rates": [0.1, 1.0],
        "criteria.0.name": "e2mc",
        "criteria.0.params.window": 8,
        "criteria.1.name": "er",
        "criteria.1.params": {},
        "none": {},
        "empty": [],
        "scales.0": [0.1, 1.0],
        "scales.1": [0.2, 1.0],
    }


def test_lines_hold_every_value_and_the_code_by_folder():
    task = task_with(
        {"epochs": 1, "method": {"name": "vicreg"}},
        {"optim.py": "1", "data/files.py": "2", "data/views.py": "3"},
    )
    assert task.lines == [
        "epochs: 1",
        'method.name: "vicreg"',
        "code of /: optim.py 1",
        "code of data/: files.py 2, views.py 3",
    ]


def test_digest_follows_values_and_code_alone():
    task = task_with()
    assert len(task.digest()) == 12 and task.digest() == task_with().digest()
    assert task.moved(Path("elsewhere")).digest() == task.digest()
    assert task_with(arguments={"device": "cuda"}).digest() == task.digest()
    assert task_with({"epochs": 2}).digest() != task.digest()
    assert task_with({"epochs": 1, "lr": 1}).digest() != task.digest()
    assert task_with(code={"optim.py": "1", "data/views.py": "3"}).digest() != task.digest()
    assert task_with(code={"optim.py": "1"}).digest() != task.digest()


def test_text_and_number_are_two_values():
    assert task_with({"epochs": "1"}).digest() != task_with({"epochs": 1}).digest()
    assert differences({"a": "1"}, {"a": 1}) == ['a "1" → 1']


def test_moved_outputs_keep_their_names():
    moved = task_with().moved(Path("staged"))
    assert moved.outputs == {"checkpoint": "staged/checkpoint.pt", "log": "staged/training.csv"}
    assert moved.inputs == task_with().inputs and moved.decides == task_with().decides


def test_differences_are_named_with_before_and_now():
    before = {"criteria": [{"name": "e2mc", "params": {"entropy_weight": 0.1}}], "epochs": 1}
    now = {"criteria": [{"name": "e2mc", "params": {"entropy_weight": 1.0}}], "epochs": 1}
    assert differences(before, now) == ["criteria.0.params.entropy_weight 0.1 → 1.0"]
    assert differences(before, before) == []
    assert differences({"a": None}, {}) == ["a null → nothing"]
    assert differences({}, {"b": [1]}) == ["b nothing → [1]"]


def test_many_differences_are_counted():
    assert listed(["a", "b"]) == "a, b"
    assert listed([*"abcde"]) == f"a, b, c and {5 - SHOWN} more"


def test_what_has_changed_since_the_plan_is_named():
    task = task_with()
    task.expect(task_with())
    task.expect(task_with(arguments={"device": "cpu"}))
    with pytest.raises(InputError) as caught:
        task.expect(task_with({"epochs": 2}))
    assert str(caught.value) == (
        "since no_step of out/checkpoint.pt was planned there has changed: epochs 1 → 2: run the "
        "same again"
    )
    edited = {"optim.py": "1", "data/views.py": "9", "entropy.py": "4"}
    with pytest.raises(InputError, match=r"changed: the code of data/views\.py, entropy\.py: run"):
        task.expect(task_with(code=edited))


def test_task_is_performed_by_its_step(tmp_path, monkeypatch):
    (tmp_path / "some_steps.py").write_text(
        "def note(task):\n    task.output('log').write_text(task.arguments['study'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    task_with(step="some_steps:note", outputs={"log": tmp_path / "log"}).perform()
    assert (tmp_path / "log").read_text() == "smoke"


def test_task_needs_no_torch():
    """Also performed: only its step loads what it needs."""
    program = (
        "import sys; from e2mc.task import Task\n"
        "task = Task('builtins:repr', {}, {}, {'a': 'b'}, {'c': 1}, {})\n"
        "task.perform(); task.digest(); task.expect(task)\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
