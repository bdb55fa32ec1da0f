"""Stages stored per class.  in: upstream of the same classes   out: a manifest of one block

One rule per stage, with its name for profiles and `--set-resources`. Stages of methods are declared
in their ``method.py``.
"""

for stage in [stage for stage in stages().values() if stage.member == "class_id"]:

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
