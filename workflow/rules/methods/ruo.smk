"""Compressed images and rate-utility optimisation.

in: images, or a set to start from   out: manifests of slices: latents and networks; bitstreams
"""


rule compression:
    """Compress the images of the slices of one job."""
    input:
        unpack(lambda w: block_inputs("compression", w)),
    output:
        manifest="results/manifests/compression/{family}/{block}.json",
    log:
        "results/logs/compression/{family}/{block}.log",
    benchmark:
        "results/benchmarks/compression/{family}/{block}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("compression"),
    params:
        spec=lambda w: block("compression", w).artifact.spec(),
        members=lambda w: list(block("compression", w).members),
    script:
        "../../scripts/stage.py"


rule rate_utility:
    """Optimise the slices of one set for rate and utility."""
    input:
        unpack(lambda w: artifact_inputs("rate_utility", w)),
    output:
        state=update("results/rate_utility/{spec}/ipc{ipc}-seed{seed}/state.safetensors"),
    log:
        "results/logs/rate_utility/{spec}/ipc{ipc}-seed{seed}.log",
    benchmark:
        "results/benchmarks/rate_utility/{spec}/ipc{ipc}-seed{seed}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("rate_utility"),
    params:
        spec=lambda w: wanted("rate_utility", w).spec(),
    script:
        "../../scripts/stage.py"


rule bound:
    """Choose the bound of post-quantisation on held-out training images."""
    input:
        unpack(lambda w: artifact_inputs("bound", w)),
    output:
        bound=update("results/bound/{spec}/ipc{ipc}-seed{seed}/bound.json"),
    log:
        "results/logs/bound/{spec}/ipc{ipc}-seed{seed}.log",
    benchmark:
        "results/benchmarks/bound/{spec}/ipc{ipc}-seed{seed}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("bound"),
    params:
        spec=lambda w: wanted("bound", w).spec(),
    script:
        "../../scripts/stage.py"


rule bitstream:
    """Quantise the networks of the slices of one job and write their bitstreams."""
    input:
        unpack(lambda w: block_inputs("bitstream", w)),
    output:
        manifest="results/manifests/bitstream/{family}/{block}.json",
    log:
        "results/logs/bitstream/{family}/{block}.log",
    benchmark:
        "results/benchmarks/bitstream/{family}/{block}.jsonl"
    conda:
        "../../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("bitstream"),
    params:
        spec=lambda w: block("bitstream", w).artifact.spec(),
        members=lambda w: list(block("bitstream", w).members),
    script:
        "../../scripts/stage.py"
