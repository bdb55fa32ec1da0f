"""Sources to encoded images.  in: files of a source   out: index, one Parquet file a class"""


def source_files(artifact):
    """Return the files of a Parquet source; other kinds bring their own data."""
    source = settings["sources"][artifact.settings["name"]]
    splits = ("train", "test") if source["kind"] == "parquet" else ()
    return {split: kept(source[split]) for split in splits}


rule index:
    """List all images of a source with their checksums."""
    input:
        unpack(lambda w: source_files(wanted("index", w.spec))),
    output:
        index="results/index/{spec}/index.parquet",
    log:
        "results/logs/index/{spec}.log",
    benchmark:
        "results/benchmarks/index/{spec}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        spec=lambda w: wanted("index", w.spec).spec(),
    script:
        "../scripts/index.py"


for family, members in plan.blocks("images"):

    rule:
        name:
            block_name("images", family.artifact, members)
        input:
            **source_files(family.artifact.upstream["index"]),
            index=ancient(family.artifact.upstream["index"].file("index.parquet")),
        output:
            images=[update(path) for path in member_files(family.artifact, members)],
        log:
            log_of(family.artifact, members),
        benchmark:
            benchmark_of(family.artifact, members)
        conda:
            "../../envs/stillhouse.yaml"
        threads: 1
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/images.py"
