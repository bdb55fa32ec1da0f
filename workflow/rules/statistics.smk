"""What teachers see of real images.  in: teachers, images   out: statistics of their layers"""


rule statistics:
    """Collect what a teacher's layers see of real images."""
    input:
        teacher=lambda w: kept(
            [wanted("statistics", w.spec).upstream["teacher"].file("model.safetensors")]
        ),
        images=lambda w: class_images(wanted("statistics", w.spec)),
    output:
        statistics=update("results/statistics/{spec}/statistics.safetensors"),
    log:
        "results/logs/statistics/{spec}.log",
    benchmark:
        "results/benchmarks/statistics/{spec}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **HEAVY,
    params:
        spec=lambda w: wanted("statistics", w.spec).spec(),
    script:
        "../scripts/statistics.py"
