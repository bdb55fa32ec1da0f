"""Optimised images of DM, GM and TM, and the expert trajectories of TM.

in: images, or a set to start from   out: one Parquet file; a manifest of experts
"""


rule trajectories:
    """Train the experts of one job."""
    input:
        unpack(lambda w: block_inputs("trajectories", w)),
    output:
        manifest="results/manifests/trajectories/{family}/{block}.json",
    log:
        "results/logs/trajectories/{family}/{block}.log",
    benchmark:
        "results/benchmarks/trajectories/{family}/{block}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("trajectories"),
    params:
        spec=lambda w: block("trajectories", w).artifact.spec(),
        members=lambda w: list(block("trajectories", w).members),
    script:
        "../../scripts/stage.py"


rule matched:
    """Optimise the images of one distilled set."""
    input:
        unpack(lambda w: artifact_inputs("matched", w)),
    output:
        images=update("results/matched/{spec}/ipc{ipc}-seed{seed}/images.parquet"),
    log:
        "results/logs/matched/{spec}/ipc{ipc}-seed{seed}.log",
    benchmark:
        "results/benchmarks/matched/{spec}/ipc{ipc}-seed{seed}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("matched"),
    params:
        spec=lambda w: wanted("matched", w).spec(),
    script:
        "../../scripts/stage.py"
