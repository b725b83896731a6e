import subprocess
import sys
import textwrap

import pytest


def run_script(tmp_path, body):
    script = "from e2mc.cluster.console import logged\nwith logged('step.log'):\n"
    script += textwrap.indent(textwrap.dedent(body), "    ")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return done, (tmp_path / "step.log").read_text()


def test_output_goes_to_the_log(tmp_path):
    done, log = run_script(tmp_path, "import os\nprint('one', flush=True)\nos.system('echo two')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log.split() == ["one", "two"]


@pytest.mark.parametrize("error", ["ValueError", "OSError", "RuntimeError"])
def test_expected_error_is_one_sentence_on_the_terminal(tmp_path, error):
    done, log = run_script(tmp_path, f"raise {error}('the file is gone')")
    assert done.returncode == 1
    assert done.stderr == "error: the file is gone\n"
    assert "Traceback" in log


def test_fault_keeps_its_traceback(tmp_path):
    done, log = run_script(tmp_path, "{}['key']")
    assert done.returncode == 1
    assert "KeyError" in log
