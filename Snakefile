"""Stillhouse: dataset distillation, reproduced and compared. Included in the order data flows."""

from snakemake.utils import min_version

min_version("9.25")


include: "workflow/rules/package.smk"


# A config given with --configfile is the whole config: the default is not merged into it.
if not workflow.overwrite_configfiles:

    configfile: f"{workflow.basedir}/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/console.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/whitening.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/denoisers.smk"
include: "workflow/rules/members.smk"
include: "workflow/rules/methods.smk"
include: "workflow/rules/distilled.smk"
include: "workflow/rules/labels.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        cells=all_cells,
        tables=expand(
            "results/tables/{experiment}.{suffix}",
            experiment=plan.experiments,
            suffix=["csv", "md", "tex"],
        ),
        charts=expand(
            "results/figures/{experiment}/{chart}.svg",
            experiment=plan.experiments,
            chart=CHARTS,
        ),
        sheets=[
            f"results/figures/{one.relative_path}.png"
            for one in plan.artifacts["distilled"].values()
        ],
        pages=expand("results/report/{experiment}.html", experiment=plan.experiments),
        overview="results/report/index.html",


onstart:
    warn_of_larger_tables()


onsuccess:
    print(new_tables())
    print(where_to_look())
