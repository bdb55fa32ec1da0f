"""Tables and charts to pages.  in: an experiment's table, charts, sheets   out: one HTML file"""

REPORT = Path(workflow.basedir, "workflow/report")
CHARTS = ["accuracy", "bytes", "cost", "curves"]
CAPTIONS = [*CHARTS, "clusters", "heat_maps", "latents", "synthesis", "terms"]


rule page:
    """Put everything about one experiment into one page for a browser."""
    input:
        csv="results/tables/{experiment}.csv",
        accuracy="results/figures/{experiment}/accuracy.svg",
        bytes="results/figures/{experiment}/bytes.svg",
        curves="results/figures/{experiment}/curves.svg",
        cost="results/figures/{experiment}/cost.svg",
        sheets=lambda w: list(sheets(w.experiment)),
        cells=lambda w: cell_files(w.experiment),
        indexes=lambda w: gappy_indexes(w.experiment),
        pictures=lambda w: list(pictures(w.experiment)),
        inversions=lambda w: inversions(w.experiment),
        captions=[str(REPORT / f"{name}.rst") for name in CAPTIONS],
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
    params:
        cells=lambda w: identities(w.experiment),
        sheets=lambda w: list(sheets(w.experiment).values()),
        pictures=lambda w: list(pictures(w.experiment).values()),
        version=VERSIONS["figures"],
    script:
        "../scripts/page.py"
