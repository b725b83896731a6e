"""What a result says of its origin."""

from pathlib import Path

import pytest

from e2mc.code_hash import code_hash
from e2mc.steps.evaluation import _code_hash
from e2mc.study import Run, load_study

STUDY = load_study(str(Path(__file__).parents[1] / "studies/fashion.yaml"))
BASE = Run("vicreg", "base", 0, None)
ARM = Run("vicreg", "e2mc", 0, 1)
EVALUATED = code_hash("evaluation")
TRAINED = f"{code_hash('training')}-{EVALUATED}"


@pytest.mark.parametrize(
    ("run", "checkpoint", "expected"),
    [
        (BASE, Path("checkpoints/fashion/vicreg-base0.pt"), EVALUATED),
        (BASE, STUDY.converted_path("vicreg"), EVALUATED),
        (BASE, STUDY.retrained_path("vicreg", 0), TRAINED),
        (ARM, STUDY.checkpoint_path(ARM), TRAINED),
    ],
)
def test_code_of_the_training_counts_where_it_trained(run, checkpoint, expected):
    assert _code_hash(STUDY, run, checkpoint) == expected
