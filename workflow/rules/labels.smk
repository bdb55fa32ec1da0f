"""Distilled sets to soft labels.  in: distilled set, teachers   out: one Parquet table"""


rule labels:
    """Store teacher logits for the augmented views of every epoch."""
    input:
        unpack(lambda w: artifact_inputs("labels", w)),
    output:
        labels=update("results/labels/{place}/labels.parquet"),
    log:
        "results/logs/labels/{place}.log",
    benchmark:
        "results/benchmarks/labels/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("labels"),
    params:
        spec=lambda w: wanted("labels", w).spec(),
    script:
        "../scripts/stage.py"
