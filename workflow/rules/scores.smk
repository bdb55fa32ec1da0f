"""Judges to scores, features, clusters.  in: images, teacher or denoiser   out: a file a class"""

for family, members in plan.blocks("patch_scores"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            images=kept(member_files(family.artifact.upstream["images"], members)),
            teacher=lambda w, family=family.artifact, members=members: teacher_files(
                family, member_files(family, members)
            ),
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


for family, members in plan.blocks("class_scores"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            denoiser=kept([family.artifact.upstream["denoiser"].file("denoiser.json")]),
            images=kept(member_files(family.artifact.upstream["images"], members)),
            latents=kept(member_files(family.artifact.upstream["latents"], members)),
        output:
            scores=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/class_scores/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/class_scores/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/class_scores.py"


for family, members in plan.blocks("features"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            **feature_inputs(family.artifact, members),
            teacher=lambda w, family=family.artifact, members=members: teacher_files(
                family, member_files(family, members)
            ),
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


for family, members in plan.blocks("clusters"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            features=kept(member_files(family.artifact.upstream["features"], members)),
            scores=kept(member_files(family.artifact.upstream["scores"], members)),
        output:
            clusters=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/clusters/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/clusters/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            torch_threads=COMPUTE["threads"],
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/clusters.py"
