"""Stages with members: per class, batch, expert, slice.  in: upstream   out: a manifest of a block

One rule per stage, named after it: profiles and `--set-resources` address it by that name. Stages
of methods are declared in their ``method.py``. Students, which have members too, are in students.smk.
"""

for stage in [stage for stage in stages().values() if stage.member and stage.name != "students"]:

    rule:
        name:
            stage.name
        input:
            unpack(functools.partial(block_inputs, stage.name)),
        output:
            manifest=f"results/manifests/{stage.name}/{{family}}/{{block}}.json",
        log:
            f"results/logs/{stage.name}/{{family}}/{{block}}.log",
        benchmark:
            f"results/benchmarks/{stage.name}/{{family}}/{{block}}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **computing(stage.name),
        params:
            spec=lambda w, name=stage.name: block(name, w).artifact.spec(),
            members=lambda w, name=stage.name: list(block(name, w).members),
        script:
            "../scripts/stage.py"
