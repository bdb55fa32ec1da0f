"""Sources to encoded images.  in: files of a source   out: index, one Parquet file a class"""


rule index:
    """List all images of a source with their checksums."""
    input:
        unpack(
            lambda w: source_files(
                wanted("index", w.spec), [f"results/index/{w.spec}/index.parquet"]
            )
        ),
    output:
        index="results/index/{spec}/index.parquet",
    log:
        "results/logs/index/{spec}.log",
    benchmark:
        "results/benchmarks/index/{spec}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["index_threads"]
    resources:
        **READING,
        as_published=lambda w: indexing(wanted("index", w.spec))["as_published"],
        checkpoint_seconds=str(COMPUTE["checkpoint_seconds"]),
        download=lambda w: indexing(wanted("index", w.spec))["download"],
        index_threads=lambda w, threads: threads,
        smallest_class=lambda w: indexing(wanted("index", w.spec))["smallest_class"],
    params:
        spec=lambda w: wanted("index", w.spec).spec(),
    script:
        "../scripts/index.py"


for family, members in plan.blocks("images"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            unpack(
                lambda w, family=family.artifact, members=members: source_files(
                    family.upstream["index"], member_files(family, members)
                )
            ),
            index=ancient(family.artifact.upstream["index"].file("index.parquet")),
        output:
            images=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/images/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/images/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: 1
        resources:
            **READING,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/images.py"
