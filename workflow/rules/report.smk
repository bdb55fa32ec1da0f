"""Tables and charts to pages.  in: an experiment's table, charts, sheets   out: one HTML file"""

REPORT = Path(workflow.basedir, "workflow/report")
CHARTS = ["accuracy", "cost", "curves", "rates"]
CAPTIONS = {*CHARTS, *(one.caption for _, drawn in DRAWINGS.values() for one in drawn.values())}


rule page:
    """Write the HTML page of one experiment with its table, charts, figures and sheets."""
    input:
        csv="results/tables/{experiment}.csv",
        accuracy="results/figures/{experiment}/accuracy.svg",
        rates="results/figures/{experiment}/rates.svg",
        curves="results/figures/{experiment}/curves.svg",
        cost="results/figures/{experiment}/cost.svg",
        sheets=lambda w: list(reports.contact_sheets(cells_of(w))),
        cells=lambda w: reports.cell_manifests(plan, cells_of(w)),
        datasets=lambda w: unchanged(reports.datasets(cells_of(w))),
        indexes=lambda w: unchanged(reports.skipping_indexes(cells_of(w))),
        pictures=lambda w: list(reports.figure_files(w.experiment, figures_of(w.experiment))),
        numbers=lambda w: reports.figure_numbers(w.experiment, figures_of(w.experiment)),
        captions=[str(REPORT / f"{name}.rst") for name in sorted(CAPTIONS)],
        template=str(REPORT / "page.html.jinja"),
    output:
        html=shown("results/report/{experiment}.html", "page", "Page", "page"),
    log:
        "results/logs/report/{experiment}.log",
    benchmark:
        "results/benchmarks/report/{experiment}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    resources:
        config=CONFIGS,
    params:
        cells=lambda w: reports.identities(cells_of(w)),
        function="stillhouse.reporting.html_report:page",
        pictures=lambda w: list(
            reports.figure_files(w.experiment, figures_of(w.experiment)).values()
        ),
        sheets=lambda w: list(reports.contact_sheets(cells_of(w)).values()),
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
