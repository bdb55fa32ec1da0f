"""Teachers to patch scores and features.  in: images (block), teacher   out: a file a class"""

for family, members in plan.blocks("patch_scores"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            images=kept(member_files(family.artifact.upstream["images"], members)),
            teacher=lambda w, family=family.artifact: teacher_files(family),
        output:
            scores=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/patch_scores/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/patch_scores/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/patch_scores.py"


for family, members in plan.blocks("features"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            images=kept(member_files(family.artifact.upstream["images"], members)),
            teacher=lambda w, family=family.artifact: teacher_files(family),
            scores=scored_files(family.artifact, members),
        output:
            features=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/features/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/features/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/features.py"
