"""All methods to distilled sets.  in: images and what the method chose   out: one Parquet file"""


rule distilled:
    """Put the images of all classes of one method into one set."""
    input:
        unpack(
            lambda w: distilled_inputs(
                wanted("distilled", f"{w.dataset}/{w.spec}/ipc{w.ipc}-seed{w.seed}")
            )
        ),
    output:
        set=update("results/distilled/{dataset}/{spec}/ipc{ipc}-seed{seed}/images.parquet"),
    log:
        "results/logs/distilled/{dataset}/{spec}/ipc{ipc}-seed{seed}.log",
    benchmark:
        "results/benchmarks/distilled/{dataset}/{spec}/ipc{ipc}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **READING,
        torch_threads=COMPUTE["threads"],
    params:
        spec=lambda w: wanted("distilled", f"{w.dataset}/{w.spec}/ipc{w.ipc}-seed{w.seed}").spec(),
    script:
        "../scripts/distilled.py"
