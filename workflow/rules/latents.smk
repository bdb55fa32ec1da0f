"""Denoisers to made images.  in: images, denoiser   out: latents, inversion, samples, images a class"""

for family, members in plan.blocks("latents"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            denoiser=kept([family.artifact.upstream["denoiser"].file("denoiser.json")]),
            images=kept(member_files(family.artifact.upstream["images"], members)),
        output:
            latents=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/latents/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/latents/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/latents.py"


for family, members in plan.blocks("inversion"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            denoiser=kept([family.artifact.upstream["denoiser"].file("denoiser.json")]),
            latents=kept(member_files(family.artifact.upstream["latents"], members)),
        output:
            statistics=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/inversion/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/inversion/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/inversion.py"


for family, members in plan.blocks("samples"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            inversion=kept(member_files(family.artifact.upstream["inversion"], members)),
        output:
            latents=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/samples/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/samples/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/samples.py"


for family, members in plan.blocks("prototypes"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            latents=kept(member_files(family.artifact.upstream["latents"], members)),
        output:
            latents=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/prototypes/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/prototypes/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            torch_threads=COMPUTE["threads"],
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/prototypes.py"


for family, members in plan.blocks("decode"):

    rule:
        name:
            block_name(family.artifact, members)
        input:
            denoiser=kept([family.artifact.upstream["denoiser"].file("denoiser.json")]),
            start=kept(member_files(family.artifact.upstream["start"], members)),
        output:
            images=[update(path) for path in member_files(family.artifact, members)],
        log:
            f"results/logs/decode/{family.artifact.place}/{safe_name(members[0])}.log",
        benchmark:
            f"results/benchmarks/decode/{family.artifact.place}/{safe_name(members[0])}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="class_id",
        script:
            "../scripts/decode.py"
