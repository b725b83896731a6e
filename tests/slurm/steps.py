"""Steps for the tests of jobs: this file's folder is on the jobs' PYTHONPATH.

Their tasks are made by drive.py.
"""

import os
import time

import torch

from e2mc import progress
from e2mc.data.images import ImageSet
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.state import write_text
from e2mc.training.loop import pretrain
from e2mc.training.spec import Component, TrainingSpec


def count(task):
    """Counts, slowly; writes where it started each time. Its state is saved every third step."""
    (steps, seconds), output = task.arguments["values"], task.output("out")
    state, starts = output.with_name("state"), output.with_name("starts")
    output.parent.mkdir(parents=True, exist_ok=True)
    done = int(state.read_text()) if state.exists() else 0
    with starts.open("a") as file:
        file.write(f"{done}\n")
    while done < steps:
        time.sleep(seconds)
        done += 1
        print("step", done, flush=True)
        if progress.stop_requested() or done % 3 == 0:
            write_text(str(done), state)
        if progress.stop_requested():
            raise progress.Interrupted
    write_text(f"{done} steps, started at {starts.read_text().split()}", output)


def fail(task):
    [message] = task.arguments["values"]
    raise ValueError(message)


def die(task):
    """As a fault in a library would end it: no Python error."""
    os.kill(os.getpid(), 9)


def fill_memory(task):
    [megabytes] = task.arguments["values"]
    content = bytearray(megabytes << 20)
    time.sleep(60)
    task.output("out").write_text(str(len(content)))


def copy(task):
    write_text(task.input("in").read_text(), task.output("out"))


def add(task):
    """A line to what is there already."""
    [line] = task.arguments["values"]
    output = task.output("out")
    before = output.read_text() if output.exists() else ""
    print("step", repr(before), flush=True)
    write_text(f"{before}{line}\n", output)


class SlowImages(ImageSet):
    """So many seconds per step; in double precision, where rounding does not grow to be seen."""

    seconds = 0.0

    def views(self, *arguments):
        for views in super().views(*arguments):
            time.sleep(self.seconds)
            print("step of", os.environ.get("SLURMD_NODENAME"), flush=True)
            yield [view.double() for view in views]


def train(task):
    """Eight steps of the real loop."""
    [seconds] = task.arguments["values"]
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    images = SlowImages((torch.rand(64, 1, 28, 28) * 255).byte(), torch.zeros(64).long(), ("a",))
    images.seconds = seconds
    spec = TrainingSpec(
        backbone="resnet-small",
        method=Component("vicreg", {"expander": [16, 16, 16]}),
        views=(ViewRecipe(28, count=2, crop_scale=(0.3, 1.0)),),
        normalisation=Normalisation((0.3,), (0.3,)),
        optimizer=OptimizerSpec("sgd", lr=0.01),
        schedule=ScheduleSpec("cosine"),
        epochs=2,
        batch_size=16,
        criteria=(Component("e2mc", {"entropy_weight": 0.1}),),
    )
    pretrain(spec, images, task.output("out"))


def sleep(task):
    """Does not look whether it is asked to stop, as an evaluation."""
    [seconds] = task.arguments["values"]
    time.sleep(seconds)
    write_text("slept", task.output("out"))
