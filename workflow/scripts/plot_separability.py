import json
from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.figures import save_figure, separability_figure
from e2mc.study import load_study

with logged(snakemake.log[0]):
    records = [json.loads(Path(path).read_text()) for path in snakemake.input]
    figure = separability_figure(load_study(snakemake.params.study), records)
    save_figure(figure, Path(snakemake.output.pdf).with_suffix(""))
