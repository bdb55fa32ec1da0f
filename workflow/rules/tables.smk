"""Cells to tables and charts.  in: cells of an experiment, its distilled sets   out: reports"""

PUBLISHED = sorted(str(p) for p in Path(workflow.basedir, "workflow/published").glob("*.csv"))


def cells_of(experiment):
    """Return the cells of an experiment in the order of its table."""
    if experiment not in plan.experiments:
        raise WorkflowError(f"experiment {experiment}: not in this config; see snakemake -n")
    return plan.experiments[experiment]


def identities(experiment):
    """Return what identifies each cell, and the address of its artifact."""
    return [
        {**cell, "artifact": str(Path(cell["artifact"].member_file(cell["seed"])).parent)}
        for cell in cells_of(experiment)
    ]


def cell_manifests(experiment):
    """Return the manifests of an experiment's students.

    Not as unchanged: a table is made again when there are other seeds.
    """
    cells = cells_of(experiment)
    seeds = dict.fromkeys(cell["seed"] for cell in cells)
    artifacts = {cell["artifact"].place: cell["artifact"] for cell in cells}
    return [path for one in artifacts.values() for path in plan.manifests(one, seeds)]


def counted_files(experiment):
    """Return the distilled sets and label tables whose bytes an experiment's table counts."""
    upstream = {cell["artifact"].place: cell["artifact"].upstream for cell in cells_of(experiment)}
    parts = [one[name] for one in upstream.values() for name in ("distilled", "labels") if name in one]
    return unchanged(dict.fromkeys(part.file for part in parts))


def skipping_indexes(experiment):
    """Return the indexes of sources that leave out unreadable images, for an experiment's table."""
    skipping, upstream = {}, [cell["artifact"] for cell in cells_of(experiment)]
    seen = set()
    while upstream:
        artifact = upstream.pop()
        if id(artifact) in seen:
            continue
        seen.add(id(artifact))
        upstream += [part for _, part in artifact.parts()]
        if artifact.stage.name == "index" and artifact.settings.get("on_bad_image") == "skip":
            skipping[artifact.file] = None
    return unchanged(skipping)


def shown(path, caption, category, what):
    """Show a file of an experiment in `snakemake --report`."""
    labels = {"experiment": "{experiment}", "what": what}
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)


rule tables:
    """Put the cells of one experiment into a CSV, a Markdown and a LaTeX table."""
    input:
        cells=lambda w: cell_manifests(w.experiment),
        indexes=lambda w: skipping_indexes(w.experiment),
        counted=lambda w: counted_files(w.experiment),
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
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        cells=lambda w: identities(w.experiment),
        function="stillhouse.reporting.tables:tables",
        version=REPORT_VERSIONS["tables"],
    script:
        "../scripts/report.py"


rule curves:
    """Draw loss and accuracy over epochs for one experiment."""
    input:
        cells=lambda w: cell_manifests(w.experiment),
    output:
        svg=shown("results/figures/{experiment}/curves.svg", "curves", "Charts", "curves"),
    log:
        "results/logs/figures/{experiment}/curves.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/curves.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        cells=lambda w: identities(w.experiment),
        function="stillhouse.reporting.charts:curves",
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"


rule charts:
    """Draw accuracy against images per class and bytes, and the cost, for one experiment."""
    input:
        csv="results/tables/{experiment}.csv",
    output:
        accuracy=shown("results/figures/{experiment}/accuracy.svg", "accuracy", "Charts", "IPC"),
        bytes=shown("results/figures/{experiment}/bytes.svg", "bytes", "Charts", "bytes"),
        cost=shown("results/figures/{experiment}/cost.svg", "cost", "Charts", "cost"),
    log:
        "results/logs/figures/{experiment}/charts.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/charts.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        cells=lambda w: identities(w.experiment),
        function="stillhouse.reporting.charts:charts",
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
