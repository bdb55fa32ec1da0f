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


rule latent_chart:
    """Draw the latents of one D3HR method before and after inversion, and measure them."""
    input:
        inversions=lambda w: latent_files(w)["inversions"],
        samples=lambda w: latent_files(w)["samples"],
    output:
        svg=pictured(
            "results/figures/{experiment}/latents-{method}-seed{seed}.svg", "latents", "latents"
        ),
        csv=pictured(
            "results/figures/{experiment}/latents-{method}-seed{seed}.csv", "latents", "numbers"
        ),
    log:
        "results/logs/figures/{experiment}/latents-{method}-seed{seed}.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/latents-{method}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        distill_seed=lambda w: int(w.seed),
        method=lambda w: w.method,
        version=VERSIONS["figures"],
    script:
        "../scripts/latent_chart.py"


rule heat_maps:
    """Lay the class scores of one DDPS method over the images that score best."""
    input:
        scores=lambda w: pictured_files(w, "heat_maps")["heat_maps"],
        images=lambda w: pictured_files(w, "heat_maps")["images"],
    output:
        png=pictured(
            "results/figures/{experiment}/heat_maps-{method}-seed{seed}.png",
            "heat_maps",
            "class scores",
        ),
    log:
        "results/logs/figures/{experiment}/heat_maps-{method}-seed{seed}.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/heat_maps-{method}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    resources:
        **READING,
    params:
        title=lambda w: f"{w.experiment}, {w.method}, seed {w.seed}: class scores",
        version=VERSIONS["figures"],
    script:
        "../scripts/heat_maps.py"


rule cluster_sheet:
    """Draw the clusters of one DDPS method, the best first."""
    input:
        clusters=lambda w: pictured_files(w, "clusters")["clusters"],
        images=lambda w: pictured_files(w, "clusters")["images"],
    output:
        png=pictured(
            "results/figures/{experiment}/clusters-{method}-seed{seed}.png", "clusters", "clusters"
        ),
    log:
        "results/logs/figures/{experiment}/clusters-{method}-seed{seed}.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/clusters-{method}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    resources:
        **READING,
    params:
        title=lambda w: f"{w.experiment}, {w.method}, seed {w.seed}: clusters",
        version=VERSIONS["figures"],
    script:
        "../scripts/cluster_sheet.py"


rule descents:
    """Draw how the first images of one method were synthesised."""
    input:
        pictures=lambda w: first_batch(w, "snapshots.parquet"),
        curve=lambda w: first_batch(w, "curve.json"),
    output:
        png=pictured(
            "results/figures/{experiment}/synthesis-{method}-seed{seed}.png",
            "synthesis",
            "pictures",
            "Synthesis",
        ),
        svg=pictured(
            "results/figures/{experiment}/terms-{method}-seed{seed}.svg",
            "terms",
            "terms",
            "Synthesis",
        ),
    log:
        "results/logs/figures/{experiment}/synthesis-{method}-seed{seed}.log",
    benchmark:
        "results/benchmarks/figures/{experiment}/synthesis-{method}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        title=lambda w: f"{w.experiment}, {w.method}, seed {w.seed}: synthesis",
        version=VERSIONS["figures"],
    script:
        "../scripts/descents.py"
