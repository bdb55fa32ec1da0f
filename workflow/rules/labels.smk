"""Distilled sets to soft labels.  in: distilled set, teachers   out: one Parquet table"""


rule labels:
    """Show the views of every stored epoch to the teachers and keep what they say."""
    input:
        images=lambda w: ancient(
            wanted("labels", w.spec).upstream["distilled"].file("images.parquet")
        ),
        teachers=lambda w: teacher_files(
            wanted("labels", w.spec), [f"results/labels/{w.spec}/labels.parquet"]
        ),
    output:
        labels=update("results/labels/{spec}/labels.parquet"),
    log:
        "results/logs/labels/{spec}.log",
    benchmark:
        "results/benchmarks/labels/{spec}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **HEAVY,
    params:
        spec=lambda w: wanted("labels", w.spec).spec(),
    script:
        "../scripts/labels.py"
