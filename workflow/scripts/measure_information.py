from pathlib import Path

from e2mc.console import logged
from e2mc.launching import run
from e2mc.steps import measure_information
from e2mc.study import Run, load_config, load_study

with logged(snakemake.log[0]):
    config = load_config(snakemake.config)
    run(
        measure_information,
        load_study(snakemake.params.study),
        Run.parse(**snakemake.wildcards),
        Path(snakemake.input.checkpoint),
        {"images": Path(snakemake.input.images)},
        Path(snakemake.output[0]),
        config.device,
        outputs=[Path(path) for path in snakemake.output],
        spec=f"{snakemake.params.spec} {snakemake.params.code}",
        resources=config.resources("measure"),
    )
