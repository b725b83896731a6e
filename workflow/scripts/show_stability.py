from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.figures import save_figure
from e2mc.reporting.results import collect
from e2mc.reporting.stability import (
    stability_csv,
    stability_figure,
    stability_markdown,
    stability_points,
)
from e2mc.state import write_text
from e2mc.study import load_study

with logged(snakemake.log[0]):
    study = load_study(snakemake.params.study)
    points = stability_points(study, collect([Path(path) for path in snakemake.input]))
    write_text(stability_csv(points), Path(snakemake.output.csv))
    write_text(stability_markdown(study, points), Path(snakemake.output.md))
    save_figure(stability_figure(study, points), Path(snakemake.output.pdf).with_suffix(""))
