"""Images to whitenings of inputs.  in: images of a dataset   out: mean and matrix"""


rule whitening:
    """Compute the ZCA whitening of the training images of a dataset."""
    input:
        unpack(lambda w: artifact_inputs("whitening", w)),
    output:
        update("results/whitening/{place}/whitening.safetensors"),
    log:
        "results/logs/whitening/{place}.log",
    benchmark:
        "results/benchmarks/whitening/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **computing("whitening"),
    params:
        spec=lambda w: wanted("whitening", w).spec(),
    script:
        "../scripts/stage.py"
