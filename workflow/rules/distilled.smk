"""All methods to distilled sets.  in: last artifacts of the method   out: one Parquet file"""


rule distilled:
    """Collect the images of all classes of one method in one set."""
    input:
        unpack(lambda w: artifact_inputs("distilled", w)),
    output:
        set=update("results/distilled/{place}/images.parquet"),
    log:
        "results/logs/distilled/{place}.log",
    benchmark:
        "results/benchmarks/distilled/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("distilled"),
    params:
        spec=lambda w: wanted("distilled", w).spec(),
    script:
        "../scripts/stage.py"
