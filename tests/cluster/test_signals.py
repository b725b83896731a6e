import os
import signal
import subprocess
import sys
import time

import pytest

from e2mc.cluster.signals import Stopped, pause, stop_signals


def test_who_started_a_rule_behind_a_shell():
    """An older bash stays between Snakemake and the rule's process."""
    script = "from e2mc.cluster import signals; print(*signals._starters())"
    command = ["bash", "-c", '"$0" -c "$1"; true', sys.executable, script]
    shell, starter = subprocess.check_output(command, text=True).split()
    assert int(starter) == os.getpid() and int(shell) != os.getpid()
    alone = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert alone.split() == [str(os.getpid())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_looked_at_in_a_pause(number):
    handler = signal.getsignal(number)
    with stop_signals():
        os.kill(os.getpid(), number)
        begin = time.monotonic()
        with pytest.raises(Stopped) as stopped:
            pause(60)
    assert time.monotonic() - begin < 30
    assert (stopped.value.status, stopped.value.cancels) == (128 + number, True)
    assert signal.getsignal(number) is handler
    with stop_signals():
        pause(0)  # it is forgotten


def test_who_was_left_alone_cancels_nothing():
    assert not Stopped(signal.SIGHUP).cancels
