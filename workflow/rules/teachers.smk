"""Images to teachers.  in: images of a dataset's classes   out: weights and metrics"""


def class_images(artifact):
    """Return the images of all classes that an artifact's settings name."""
    return kept(member_files(artifact.upstream["images"], artifact.settings["classes"]))


def teacher_inputs(artifact):
    """Return what a teacher is made from: images, and its weights if it is loaded."""
    weights = [t["weights"]["file"] for t in plan.given[artifact.name] if "weights" in t]
    return {"images": class_images(artifact), "weights": kept(weights[:1])}


def min_accuracy(name):
    """Return the strictest bar that the config sets for a teacher, as text; empty for none."""
    bars = [t["min_accuracy"] for t in plan.given[name] if "min_accuracy" in t]
    return str(max(bars)) if bars else ""


rule teacher:
    """Train a teacher by its recipe, or load it; test it."""
    input:
        unpack(lambda w: teacher_inputs(wanted("teacher", w.spec))),
    output:
        model="results/teacher/{spec}/model.safetensors",
        metrics="results/teacher/{spec}/metrics.json",
    log:
        "results/logs/teacher/{spec}.log",
    benchmark:
        "results/benchmarks/teacher/{spec}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: COMPUTE["threads"]
    resources:
        **HEAVY,
        min_accuracy=lambda w: min_accuracy(w.spec),
    params:
        spec=lambda w: wanted("teacher", w.spec).spec(),
    script:
        "../scripts/teacher.py"
