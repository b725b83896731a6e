import pytest

from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.optim import OptimizerSpec, ScheduleSpec
from e2mc.training.spec import Component, TrainingSpec


@pytest.fixture
def spec():
    """Two epochs of batches of 16."""
    return TrainingSpec(
        backbone="resnet-small",
        method=Component("simsiam"),
        views=(ViewRecipe(28, count=2),),
        normalisation=Normalisation((0.3,), (0.3,)),
        optimizer=OptimizerSpec("sgd", lr=0.1),
        schedule=ScheduleSpec("cosine"),
        epochs=2,
        batch_size=16,
    )
