"""Sets and labels to students.  in: distilled set, labels, test images   out: a cell a seed"""

for family, members in plan.parts("students", COMPUTE["seeds_per_job"]):

    rule:
        name:
            f"students_{family.artifact.name}-seed{members[0]}"
        input:
            set=ancient(family.artifact.upstream["distilled"].file("images.parquet")),
            images=class_images(family.artifact.upstream["distilled"]),
            labels=label_files(family.artifact),
            teachers=lambda w, family=family, members=members: teacher_files(
                family.artifact,
                [family.artifact.at(student_seed=s).file("cell.json") for s in members],
            ),
        output:
            cells=[update(family.artifact.at(student_seed=s).file("cell.json")) for s in members],
        log:
            f"results/logs/students/{family.artifact.name}-seed{members[0]}.log",
        benchmark:
            f"results/benchmarks/students/{family.artifact.name}-seed{members[0]}.jsonl"
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
