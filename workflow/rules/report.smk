"""Tables and charts to pages.  in: an experiment's table, charts, sheets   out: one HTML file"""

REPORT = Path(workflow.basedir, "workflow/report")
CHARTS = ["accuracy", "bytes", "cost", "curves"]
CAPTIONS = sorted({*CHARTS, *(one.caption for drawn in FIGURES.values() for one in drawn.values())})


def sheets(experiment):
    """Return {contact sheet: method, IPC and seed} of an experiment's distilled sets."""
    return {
        f"results/figures/{cell['artifact'].upstream['distilled'].place}.png": {
            name: cell[name] for name in ("method", "ipc", "distill_seed")
        }
        for cell in cells_of(experiment)
    }


rule page:
    """Put everything about one experiment into one page for a browser."""
    input:
        csv="results/tables/{experiment}.csv",
        accuracy="results/figures/{experiment}/accuracy.svg",
        bytes="results/figures/{experiment}/bytes.svg",
        curves="results/figures/{experiment}/curves.svg",
        cost="results/figures/{experiment}/cost.svg",
        sheets=lambda w: list(sheets(w.experiment)),
        cells=lambda w: cell_manifests(w.experiment),
        indexes=lambda w: skipping_indexes(w.experiment),
        pictures=lambda w: list(figure_files(w.experiment)),
        numbers=lambda w: figure_numbers(w.experiment),
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
        function="stillhouse.reporting.html_report:page",
        pictures=lambda w: list(figure_files(w.experiment).values()),
        sheets=lambda w: list(sheets(w.experiment).values()),
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
