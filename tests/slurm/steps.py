"""Steps for the tests of jobs: this file's folder is on the jobs' PYTHONPATH."""

import os
import time
from pathlib import Path

from e2mc import interruption
from e2mc.state import write_text


def count(steps, seconds, output):
    """Counts, slowly; writes where it started each time. Its state is saved every third step."""
    state, starts = output.with_name("state"), output.with_name("starts")
    output.parent.mkdir(parents=True, exist_ok=True)
    done = int(state.read_text()) if state.exists() else 0
    with starts.open("a") as file:
        file.write(f"{done}\n")
    while done < steps:
        time.sleep(seconds)
        done += 1
        print("step", done, flush=True)
        if interruption.requested() or done % 3 == 0:
            write_text(str(done), state)
        if interruption.requested():
            raise interruption.Interrupted
    write_text(f"{done} steps, started at {starts.read_text().split()}", output)


def fail(message, output):
    raise ValueError(message)


def die(output):
    """As a fault in a library would end it: no Python error."""
    os.kill(os.getpid(), 9)


def fill_memory(megabytes, output):
    content = bytearray(megabytes << 20)
    time.sleep(60)
    output.write_text(str(len(content)))


def copy(source, output):
    write_text(Path(source).read_text(), output)
