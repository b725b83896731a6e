from pathlib import Path

from e2mc.cluster.console import logged
from e2mc.reporting.convergence import convergence_figure, convergence_scores
from e2mc.reporting.figures import save_figure
from e2mc.reporting.results import collect
from e2mc.state import write_text
from e2mc.study import load_study

with logged(snakemake.log[0]):
    study = load_study(snakemake.params.study)
    scores = convergence_scores(study, collect([Path(path) for path in snakemake.input]))
    write_text(scores.to_csv(index=False, float_format="%.4f"), Path(snakemake.output.csv))
    save_figure(convergence_figure(study, scores), Path(snakemake.output.pdf).with_suffix(""))
