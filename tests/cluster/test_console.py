import subprocess
import sys
import textwrap

import pytest


def run_script(tmp_path, body):
    script = "from e2mc.cluster.console import logged\nfrom e2mc.errors import *\n"
    script += "with logged('step.log'):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return done, (tmp_path / "step.log").read_text()


def test_output_goes_to_the_log(tmp_path):
    done, log = run_script(tmp_path, "import os\nprint('one', flush=True)\nos.system('echo two')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.split() == ["one", "two"]


@pytest.mark.parametrize("error", ["InputError", "MachineError", "OSError"])
def test_expected_error_is_one_sentence_on_the_terminal(tmp_path, error):
    done, log = run_script(tmp_path, f"raise {error}('the file is gone')")
    assert done.returncode == 1
    assert done.stderr == "error: the file is gone\n"
    assert "Traceback" in log


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("{}['key']", "KeyError: 'key'"),
        ("raise ValueError('no')", "ValueError: no"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
    ],
)
def test_fault_is_said_to_be_one_and_keeps_its_traceback(tmp_path, body, what):
    done, log = run_script(tmp_path, body)
    assert done.returncode == 1
    said = f"a fault of the code, not of its input: {what}; its traceback is in step.log\n"
    assert done.stderr == said
    assert log.count("Traceback") == 1 and what in log


def test_announcement_is_in_the_log_and_on_the_terminal(tmp_path):
    body = "from e2mc.cluster.console import announce\nannounce('job 7')"
    done, log = run_script(tmp_path, body)
    assert done.stderr == log == "job 7\n"


def test_closed_terminal_ends_nothing(tmp_path):
    body = """
        import os
        from e2mc.cluster import console
        os.close(console.terminal())
        console.announce('job 7')
        raise InputError('the file is gone')
    """
    done, log = run_script(tmp_path, body)
    assert done.returncode == 1 and log.startswith("job 7\nTraceback")
    assert log.count("Traceback") == 1
