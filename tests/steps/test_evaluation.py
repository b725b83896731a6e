"""What a result says of its origin."""

from pathlib import Path

import pytest

from e2mc.steps.evaluation import _code_versions
from e2mc.study import Run, load_study

STUDY = load_study(str(Path(__file__).parents[2] / "studies/fashion.yaml"))
BASE = Run("vicreg", "base", 0, None)
ARM = Run("vicreg", "e2mc", 0, 1)


@pytest.mark.parametrize(
    ("run", "checkpoint", "trained"),
    [
        (BASE, Path("checkpoints/fashion/vicreg-base0.pt"), False),
        (BASE, STUDY.converted_path("vicreg"), False),
        (BASE, STUDY.retrained_path("vicreg", 0), True),
        (ARM, STUDY.checkpoint_path(ARM), True),
    ],
)
def test_code_of_the_training_counts_where_it_trained(run, checkpoint, trained):
    versions = _code_versions(STUDY, run, checkpoint)
    assert {"evaluation", "methods/vicreg.py"} <= versions.keys()
    assert ("training" in versions) == trained
    assert ("criteria/e2mc.py" in versions) == (run == ARM)
    assert "criteria/mmcr.py" not in versions
