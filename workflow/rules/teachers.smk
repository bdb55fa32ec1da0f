"""Images to teachers.  in: images of a dataset   out: weights and metrics"""


rule teacher:
    """Train a teacher by its recipe or load its weights, and test it."""
    input:
        unpack(lambda w: artifact_inputs("teacher", w)),
    output:
        model=update("results/teacher/{place}/model.safetensors"),
        metrics=update("results/teacher/{place}/metrics.json"),
    log:
        "results/logs/teacher/{place}.log",
    benchmark:
        "results/benchmarks/teacher/{place}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: threads_of("teacher")
    resources:
        **computing("teacher"),
        min_accuracy=lambda w: str(plan.min_accuracy(wanted("teacher", w))),
    params:
        spec=lambda w: wanted("teacher", w).spec(),
    script:
        "../scripts/stage.py"
