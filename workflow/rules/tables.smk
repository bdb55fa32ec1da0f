"""Cells to tables and charts.  in: cells of an experiment, its distilled sets   out: for people"""

PUBLISHED = sorted(str(p) for p in Path(workflow.basedir, "workflow/published").glob("*.csv"))


rule tables:
    """Put the cells of one experiment into a CSV, a Markdown and a LaTeX table."""
    input:
        cells=lambda w: cell_files(w.experiment),
        indexes=lambda w: gappy_indexes(w.experiment),
        counted=lambda w: counted_files(w.experiment),
        published=PUBLISHED,
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
        version=VERSIONS["tables"],
    script:
        "../scripts/tables.py"


rule curves:
    """Draw loss and accuracy over epochs for one experiment."""
    input:
        cells=lambda w: cell_files(w.experiment),
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
        version=VERSIONS["figures"],
    script:
        "../scripts/curves.py"


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
        version=VERSIONS["figures"],
    script:
        "../scripts/charts.py"


rule contact_sheet:
    """Draw the images of one distilled set."""
    input:
        set=ancient("results/distilled/{dataset}/{spec}/ipc{ipc}-seed{seed}/images.parquet"),
    output:
        png=report(
            "results/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.png",
            caption="../report/sheet.rst",
            category="Images",
            labels={"dataset": "{dataset}", "set": "{spec}", "IPC": "{ipc}", "seed": "{seed}"},
        ),
    log:
        "results/logs/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.log",
    benchmark:
        "results/benchmarks/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        version=VERSIONS["figures"],
        title=lambda w: f"{w.dataset}, {w.spec}, {w.ipc} image{'s' * (w.ipc != '1')} per class",
    script:
        "../scripts/contact_sheet.py"
