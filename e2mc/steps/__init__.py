"""Each step of the workflow as one function of (study, run) and paths.

The rules and the command line call these; they read and write files, everything below them works on
tensors.
"""

from e2mc.steps.checkpoints import base_checkpoint, convert_base, verify_shipped
from e2mc.steps.data import check_data, index_data, prepare_data
from e2mc.steps.evaluation import evaluate_fine_tuned, evaluate_frozen, measure
from e2mc.steps.training import train

__all__ = [
    "base_checkpoint",
    "check_data",
    "convert_base",
    "evaluate_fine_tuned",
    "evaluate_frozen",
    "index_data",
    "measure",
    "prepare_data",
    "train",
    "verify_shipped",
]
