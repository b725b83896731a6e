from pathlib import Path

from e2mc import steps
from e2mc.console import logged
from e2mc.launching import run
from e2mc.study import Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.config)
    run(
        getattr(steps, snakemake.params.step),
        load_study(snakemake.params.study),
        Run.parse(**snakemake.wildcards),
        Path(snakemake.input.checkpoint),
        {name: Path(path) for name, path in snakemake.input.items() if name != "checkpoint"},
        {name: Path(path) for name, path in snakemake.output.items()},
        config.device,
        outputs=[Path(path) for path in snakemake.output],
        spec=snakemake.params.spec,
        stage="evaluation",
        resources=config.resources(snakemake.params.step),
    )
