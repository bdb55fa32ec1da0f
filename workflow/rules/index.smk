"""Sources to indexes and datasets.  in: files of a source   out: index, manifest of a dataset"""


rule index:
    """List all images of a source with their checksums."""
    input:
        unpack(lambda w: artifact_inputs("index", w)),
    output:
        index=update("results/index/{place}/index.parquet"),
    log:
        "results/logs/index/{place}.log",
    benchmark:
        "results/benchmarks/index/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["index_threads"]
    resources:
        **computing("index"),
        as_published=lambda w: int("smallest_class" not in index_source(w)),
        download=lambda w: int(index_source(w).get("download", False)),
        index_threads=lambda w, threads: threads,
        on_leak=lambda w: index_source(w)["on_leak"],
        smallest_class=lambda w: n_smallest(index_source(w)),
    params:
        spec=lambda w: wanted("index", w).spec(),
    script:
        "../scripts/stage.py"


rule dataset:
    """List the images of a dataset's classes, so that one file represents them."""
    input:
        unpack(lambda w: artifact_inputs("dataset", w)),
    output:
        manifest=update("results/dataset/{place}/dataset.json"),
    log:
        "results/logs/dataset/{place}.log",
    benchmark:
        "results/benchmarks/dataset/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    resources:
        **computing("dataset"),
    params:
        spec=lambda w: wanted("dataset", w).spec(),
    script:
        "../scripts/stage.py"
