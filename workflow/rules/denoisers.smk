"""Images to denoisers.  in: images of all classes of a source, or weights   out: a diffusers folder"""


rule denoiser:
    """Train a denoiser on a source, or check pretrained weights."""
    input:
        unpack(lambda w: artifact_inputs("denoiser", w)),
    output:
        description=update("results/denoiser/{place}/denoiser.json"),
    log:
        "results/logs/denoiser/{place}.log",
    benchmark:
        "results/benchmarks/denoiser/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: threads_of("denoiser")
    resources:
        **computing("denoiser"),
    params:
        spec=lambda w: wanted("denoiser", w).spec(),
    script:
        "../scripts/stage.py"
