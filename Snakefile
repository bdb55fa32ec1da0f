"""Stillhouse: dataset distillation, reproduced and compared. Included in the order data flows."""

import time

from snakemake.utils import min_version

min_version("9.25")
started = time.time()

# A config given with --configfile is the whole config: the default is not merged into it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/images.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/denoisers.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/distilled.smk"
include: "workflow/rules/labels.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        tables=expand(
            "results/tables/{experiment}.{suffix}",
            experiment=plan.experiments,
            suffix=["csv", "md", "tex"],
        ),
        charts=expand(
            "results/figures/{experiment}/{chart}.svg",
            experiment=plan.experiments,
            chart=["accuracy", "bytes", "cost", "curves"],
        ),
        sheets=[f"results/figures/{one.place}.png" for one in plan.single["distilled"].values()],
        pages=expand("results/report/{experiment}.html", experiment=plan.experiments),


onsuccess:
    for name in plan.experiments:
        table = Path(f"results/tables/{name}.md")
        if table.exists() and table.stat().st_mtime >= started:
            print(table.read_text())
    print("tables: results/tables/  figures: results/figures/  pages: results/report/")
