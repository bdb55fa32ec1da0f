"""Images to teachers.  in: images of a dataset's classes   out: weights and metrics"""


rule teacher:
    """Train a teacher by its recipe, or load it; test it."""
    input:
        unpack(lambda w: teacher_inputs(wanted("teacher", w.spec))),
    output:
        model=update("results/teacher/{spec}/model.safetensors"),
        metrics=update("results/teacher/{spec}/metrics.json"),
    log:
        "results/logs/teacher/{spec}.log",
    benchmark:
        "results/benchmarks/teacher/{spec}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **HEAVY,
        min_accuracy=lambda w: str(plan.min_accuracy(wanted("teacher", w.spec))),
    params:
        spec=lambda w: wanted("teacher", w.spec).spec(),
    script:
        "../scripts/teacher.py"
