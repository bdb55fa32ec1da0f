"""Cells to tables and figures.  in: cells of an experiment, its distilled sets   out: for people"""

PUBLISHED = sorted(str(p) for p in Path(workflow.basedir, "workflow/published").glob("*.csv"))


rule tables:
    """Put the cells of one experiment into a CSV and a Markdown table."""
    input:
        cells=lambda w: cell_files(w.experiment),
        counted=lambda w: counted_files(w.experiment),
        published=PUBLISHED,
    output:
        csv="results/tables/{experiment}.csv",
        markdown="results/tables/{experiment}.md",
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
        svg="results/figures/{experiment}.svg",
    log:
        "results/logs/figures/{experiment}.log",
    benchmark:
        "results/benchmarks/figures/{experiment}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        cells=lambda w: identities(w.experiment),
        version=VERSIONS["figures"],
    script:
        "../scripts/curves.py"


rule contact_sheet:
    """Draw the images of one distilled set."""
    input:
        set=ancient("results/distilled/{dataset}/{spec}/ipc{ipc}-seed{seed}/images.parquet"),
    output:
        png="results/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.png",
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
