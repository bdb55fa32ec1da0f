"""All methods to distilled sets.  in: images and what the method chose   out: one Parquet file

Synthesis is here because it may start from the distilled set of another method.
"""

for family, members in plan.parts("synthesis", COMPUTE["batches_per_job"]):

    rule:
        name:
            block_name(family.artifact, [f"batch{number}" for number in members])
        input:
            **synthesis_inputs(family.artifact, members),
        output:
            images=[update(path) for path in batch_files(family.artifact, members)],
            curves=[update(path) for path in batch_files(family.artifact, members, "curve.json")],
            pictures=[
                update(path) for path in batch_files(family.artifact, members, "snapshots.parquet")
            ],
        log:
            f"results/logs/synthesis/{family.artifact.place}-batch{members[0]}.log",
        benchmark:
            f"results/benchmarks/synthesis/{family.artifact.place}-batch{members[0]}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="batch",
        script:
            "../scripts/synthesis.py"


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
