"""Sets and labels to students.  in: distilled set, labels, test images   out: a cell a seed"""

for family in plan.families["students"].values():

    rule:
        name:
            f"students_{family.artifact.name}"
        input:
            set=ancient(family.artifact.upstream["distilled"].file("images.parquet")),
            images=class_images(family.artifact.upstream["distilled"]),
            labels=label_files(family.artifact),
            teachers=lambda w, family=family: teacher_files(
                family.artifact,
                [family.artifact.at(student_seed=s).file("cell.json") for s in family.members],
            ),
        output:
            cells=[
                update(family.artifact.at(student_seed=s).file("cell.json"))
                for s in family.members
            ],
        log:
            f"results/logs/students/{family.artifact.name}.log",
        benchmark:
            f"results/benchmarks/students/{family.artifact.name}.jsonl"
        conda:
            "../../envs/stillhouse.yaml"
        threads: COMPUTE["threads"]
        resources:
            **HEAVY,
        params:
            spec=family.artifact.spec(),
            member="student_seed",
        script:
            "../scripts/students.py"
