"""Does the task of a rule, here or as a SLURM job. Only what does it loads PyTorch."""

from e2mc.cluster.console import logged
from e2mc.cluster.launching import launch
from e2mc.cluster.slurm import Resources
from e2mc.task import Task

with logged(snakemake.log[0]):
    told = snakemake.params.launch
    resources = told["resources"] and Resources(**told["resources"])
    launch(Task(**snakemake.params.task), resources, distributed=told["distributed"])
