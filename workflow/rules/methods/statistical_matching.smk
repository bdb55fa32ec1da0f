"""Statistics and synthesis of SRe2L, G-VBSM and EDC.

in: teachers, images   out: feature statistics of a teacher; a manifest of synthesised batches
"""


rule statistics:
    """Compute a teacher's feature statistics on the real images."""
    input:
        unpack(lambda w: artifact_inputs("statistics", w)),
    output:
        statistics=update("results/statistics/{spec}/statistics.safetensors"),
    log:
        "results/logs/statistics/{spec}.log",
    benchmark:
        "results/benchmarks/statistics/{spec}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("statistics"),
    params:
        spec=lambda w: wanted("statistics", w).spec(),
    script:
        "../../scripts/stage.py"


rule synthesis:
    """Optimise the batches of one job."""
    input:
        unpack(lambda w: block_inputs("synthesis", w)),
    output:
        manifest="results/manifests/synthesis/{family}/{block}.json",
    log:
        "results/logs/synthesis/{family}/{block}.log",
    benchmark:
        "results/benchmarks/synthesis/{family}/{block}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("synthesis"),
    params:
        spec=lambda w: block("synthesis", w).artifact.spec(),
        members=lambda w: list(block("synthesis", w).members),
    script:
        "../../scripts/stage.py"
