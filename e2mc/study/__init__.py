"""A study: which bases, arms, seeds, paradigms and tables.

A study is a YAML file in studies/; ``load_study`` checks it against the models of ``parts`` and
``study``. An *arm* is what happened to a base before it is evaluated: ``base`` (nothing),
``continued`` (the same loss for some more epochs), a criterion, or a named variant of one. A *run*
is one arm of one base with its seeds: one checkpoint, evaluated under every paradigm.
"""

from e2mc.study.config import BaseCheckpoints, Config, LaunchedRule
from e2mc.study.parts import (
    Base,
    Convergence,
    CountedData,
    CountedImages,
    Glyphs,
    Images,
    LabelList,
    OnDisk,
    OwnCheckpoint,
    ReleasedCheckpoint,
    Rows,
    ShippedCheckpoint,
    Torchvision,
    TorchvisionImages,
)
from e2mc.study.reading import (
    StudyError,
    load_config,
    load_stages,
    load_study,
    read_config,
    study_files,
)
from e2mc.study.study import BASE_ARM, Run, Study, data_folder

__all__ = [
    "BASE_ARM",
    "Base",
    "BaseCheckpoints",
    "Config",
    "Convergence",
    "CountedData",
    "CountedImages",
    "Glyphs",
    "Images",
    "LabelList",
    "LaunchedRule",
    "OnDisk",
    "OwnCheckpoint",
    "ReleasedCheckpoint",
    "Rows",
    "Run",
    "ShippedCheckpoint",
    "Study",
    "StudyError",
    "Torchvision",
    "TorchvisionImages",
    "data_folder",
    "load_config",
    "load_stages",
    "load_study",
    "read_config",
    "study_files",
]
