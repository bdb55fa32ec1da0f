"""Sets and labels to students.  in: distilled set, labels, test images   out: a manifest of cells"""


rule students:
    """Train and test the students of one cell, one per seed."""
    input:
        unpack(lambda w: block_inputs("students", w)),
    output:
        manifest="results/manifests/students/{family}/{block}.json",
    log:
        "results/logs/students/{family}/{block}.log",
    benchmark:
        "results/benchmarks/students/{family}/{block}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("students"),
        on_divergence=lambda w: plan.on_divergence(block("students", w).artifact),
    params:
        spec=lambda w: block("students", w).artifact.spec(),
        members=lambda w: list(block("students", w).members),
    script:
        "../scripts/stage.py"
