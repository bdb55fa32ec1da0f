"""Sets and labels to students.  in: distilled set, labels, test images   out: a cell a seed"""

for family, members in plan.parts("students", COMPUTE["seeds_per_job"]):
    cells = [family.artifact.at(student_seed=seed).file("cell.json") for seed in members]

    rule:
        name:
            f"students_{family.artifact.name}-seed{members[0]}"
        input:
            set=ancient(family.artifact.upstream["distilled"].file("images.parquet")),
            images=class_images(family.artifact.upstream["distilled"]),
            labels=label_files(family.artifact),
            teachers=lambda w, family=family.artifact, cells=cells: teacher_files(family, cells),
        output:
            cells=[update(path) for path in cells],
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
