"""Cells to tables and charts.  in: cells of an experiment, its distilled sets   out: reports"""

PUBLISHED = sorted(str(p) for p in Path(workflow.basedir, "workflow/published").glob("*.csv"))


rule tables:
    """Write the cells of one experiment as CSV, Markdown and LaTeX tables."""
    input:
        outdated=lambda w: outdated(f"results/tables/{w.experiment}.csv", table_contents(w)),
        # Not `unchanged`: other seeds must rerun the table.
        cells=lambda w: reports.cell_manifests(plan, cells_of(w)),
        datasets=lambda w: unchanged(reports.datasets(cells_of(w))),
        indexes=lambda w: unchanged(reports.skipping_indexes(cells_of(w))),
        counted=lambda w: unchanged(reports.counted_files(cells_of(w))),
        published=PUBLISHED,
        signatures=str(Path(workflow.basedir, "workflow/published/signatures.json")),
    output:
        csv=shown("results/tables/{experiment}.csv", "tables", "Tables", "CSV, all cells"),
        markdown=shown("results/tables/{experiment}.md", "tables", "Tables", "Markdown"),
        latex=shown("results/tables/{experiment}.tex", "tables", "Tables", "LaTeX, accuracies"),
    log:
        "results/logs/tables/{experiment}.log",
    benchmark:
        "results/benchmarks/tables/{experiment}.jsonl"
    localrule: True
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    resources:
        config=CONFIGS,
    params:
        cells=lambda w: reports.identities(cells_of(w)),
        contents=lambda w: table_contents(w),
        function="stillhouse.reporting.tables:tables",
        version=REPORT_VERSIONS["tables"],
    script:
        "../scripts/report.py"


rule curves:
    """Draw loss and accuracy over epochs for one experiment."""
    input:
        outdated=lambda w: outdated(f"results/figures/{w.experiment}/curves.svg", table_contents(w)),
        cells=lambda w: reports.cell_manifests(plan, cells_of(w)),
    output:
        svg=shown("results/figures/{experiment}/curves.svg", "curves", "Charts", "curves"),
    log:
        "results/logs/figures/{experiment}/curves.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/curves.jsonl"
    localrule: True
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        cells=lambda w: reports.identities(cells_of(w)),
        contents=lambda w: table_contents(w),
        function="stillhouse.reporting.charts:curves",
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"


rule charts:
    """Draw accuracy against images and bits per class, and the cost, for one experiment."""
    input:
        csv="results/tables/{experiment}.csv",
    output:
        accuracy=shown("results/figures/{experiment}/accuracy.svg", "accuracy", "Charts", "IPC"),
        cost=shown("results/figures/{experiment}/cost.svg", "cost", "Charts", "cost"),
        rates=shown("results/figures/{experiment}/rates.svg", "rates", "Charts", "bits"),
    log:
        "results/logs/figures/{experiment}/charts.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/charts.jsonl"
    localrule: True
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        cells=lambda w: reports.identities(cells_of(w)),
        function="stillhouse.reporting.charts:charts",
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
