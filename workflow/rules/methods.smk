"""Stages of methods without members.  in: upstream   out: the first file of the artifact

One rule per stage, as in members.smk. `place` is the artifact's path below the stage's folder.
"""

for stage in [one for one in stages().values() if not one.member and one not in SHARED]:

    rule:
        name:
            stage.name
        input:
            unpack(functools.partial(artifact_inputs, stage.name)),
        output:
            update(f"results/{stage.name}/{{place}}/{stage.files[0]}"),
        log:
            f"results/logs/{stage.name}/{{place}}.log",
        benchmark:
            f"results/benchmarks/{stage.name}/{{place}}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **computing(stage.name),
        params:
            spec=lambda w, name=stage.name: wanted(name, w).spec(),
        script:
            "../scripts/stage.py"
