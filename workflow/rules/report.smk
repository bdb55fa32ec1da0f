"""Tables and sets to pages.  in: tables, sets, figures   out: HTML files, one per experiment, one of all"""

REPORT = Path(workflow.basedir, "workflow/report")
CHARTS = ["accuracy", "cost", "curves", "rates"]
CAPTIONS = {
    *("cost", "curves", "page_charts"),
    *(one.caption for _, drawn in DRAWINGS.values() for one in drawn.values()),
}


rule page:
    """Write the HTML page of one experiment: leaderboards, charts, images, costs, lineage."""
    input:
        csv="results/tables/{experiment}.csv",
        markdown="results/tables/{experiment}.md",
        latex="results/tables/{experiment}.tex",
        sets=lambda w: unchanged(reports.distilled_files(cells_of(w))),
        cells=lambda w: reports.cell_manifests(plan, cells_of(w)),
        datasets=lambda w: unchanged(reports.datasets(cells_of(w))),
        indexes=lambda w: unchanged(reports.skipping_indexes(cells_of(w))),
        pictures=lambda w: list(reports.figure_files(w.experiment, figures_of(w.experiment))),
        numbers=lambda w: reports.figure_numbers(w.experiment, figures_of(w.experiment)),
        captions=[str(REPORT / f"{name}.rst") for name in sorted(CAPTIONS)],
        template=sorted(str(path) for path in (REPORT / "page").iterdir()),
    output:
        html=shown("results/report/{experiment}.html", "page", "Page", "page"),
    log:
        "results/logs/report/{experiment}.log",
    benchmark:
        "results/benchmarks/report/{experiment}.jsonl"
    wildcard_constraints:
        # That is the overview: no experiment can be named index.
        experiment=r"(?!index\.html$)[^/]+",
    localrule: True
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    resources:
        config=CONFIGS,
    params:
        cells=lambda w: reports.identities(cells_of(w)),
        function="stillhouse.reporting.page.document:page",
        pictures=lambda w: list(
            reports.figure_files(w.experiment, figures_of(w.experiment)).values()
        ),
        sets=lambda w: list(reports.distilled_files(cells_of(w)).values()),
        teachers=lambda w: reports.teacher_names(plan, cells_of(w)),
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"


rule overview:
    """Write the overview of all experiments in the results folder, those of other configs too."""
    input:
        tables=expand("results/tables/{experiment}.csv", experiment=plan.experiments),
        pages=expand("results/report/{experiment}.html", experiment=plan.experiments),
        template=[str(REPORT / "overview.html.jinja"), str(REPORT / "page/page.css")],
    output:
        html="results/report/index.html",
    log:
        "results/logs/report/index.log",
    benchmark:
        "results/benchmarks/report/index.jsonl"
    localrule: True
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        function="stillhouse.reporting.page.overview:overview",
        tables=lambda w: reports.all_tables(plan),
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
