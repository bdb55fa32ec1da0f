"""Optimised images of DM, GM and TM, and the expert trajectories of TM.

in: images, or a set to start from   out: one Parquet file; a manifest of experts
"""


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
