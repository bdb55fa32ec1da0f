"""The plan of artifacts, made from the config alone; wildcards; what rules share."""

import json
import os
import sys
from pathlib import Path

PACKAGE = str(Path(workflow.basedir) / "workflow")
sys.path.insert(0, PACKAGE)
# Scripts run in processes of their own.
inherited = dict(os.environ).get("PYTHONPATH", "").split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys([PACKAGE, *filter(None, inherited)])))

# Kept by a process until it ends: glibc would give the system every large tensor's memory back, and
# ask for it anew, which is a fifth of the time of small trainings.
for threshold in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(threshold, str(2**30))

from snakemake.exceptions import WorkflowError

from stillhouse.training.teacher_accuracy import check_existing
from stillhouse.config.load import complete, wants_gpu
from stillhouse.errors import StillhouseError
from stillhouse.planning.plan import batch_files, block_name, build, given_folders, member_files
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.data.sources.catalogue import n_smallest
from stillhouse.artifacts.addresses import VERSIONS, safe_name

given_config = ["--config"] if workflow.config_settings.config else []
CONFIGS = ", ".join([*map(str, workflow.configfiles), *given_config])
try:
    settings = complete(config, CONFIGS)
    plan = build(settings)
    folders = given_folders(settings)
except StillhouseError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    dataset=r"[^/]+",
    experiment=r"[^/]+",
    ipc=r"\d+",
    method=r"[^/]+",
    seed=r"-?\d+",
    spec=r"[^/]+",


COMPUTE = settings["compute"]
# What shapes no artifact goes through `resources`, which hold no more than numbers and text.
roots = {name: source["root"] for name, source in settings["sources"].items() if "root" in source}
roots |= folders
READING = {"roots": json.dumps(roots)} if roots else {}
HEAVY = {
    **READING,
    "batch_size": COMPUTE["batch_size"],
    "checkpoint_seconds": str(COMPUTE["checkpoint_seconds"]),
    "device": COMPUTE["device"],
    "gpu": int(wants_gpu(COMPUTE["device"])),
    "torch_threads": COMPUTE["threads"],
}


def kept(paths):
    """Take artifacts as they are: what lies at an address never changes."""
    return [ancient(path) for path in paths]


def wanted(stage, name):
    """Return the artifact that wildcards name, or say that the config does not want it."""
    try:
        return plan.single[stage][name]
    except KeyError:
        raise WorkflowError(f"results/{stage}/{name}: not in this config; see snakemake -n")


def stop(message):
    """End the run with one line.

    For what an input function finds: Snakemake takes an error there to mean that a file is not
    made by this rule, and where an older file of the name lies about, goes on without the job.
    """
    sys.exit(f"error: {message}")


def given(paths, key, outputs):
    """Take the user's files, or say which of them is missing where it is needed."""
    if not all(Path(output).exists() for output in outputs):
        for path in paths:
            if not Path(path).exists():
                stop(f"{path}: is not there; it is named under {key}")
    return kept(paths)


def source_files(artifact, outputs):
    """Return the files of a Parquet source.

    Of a folder that a source lies in, no more is asked than that it is there: Snakemake would look
    at the time of change of a million files, and the index has their checksums.
    """
    name = artifact.settings["name"]
    source = settings["sources"][name]
    if "root" in source and not source.get("download"):
        given([source["root"]], f"sources.{name}.root", outputs)
    splits = ("train", "test") if source["kind"] == "parquet" else ()
    return {split: given(source[split], f"sources.{name}.{split}", outputs) for split in splits}


def indexing(artifact):
    """Return what an index job is told that shapes no artifact."""
    source = settings["sources"][artifact.settings["name"]]
    return {
        "smallest_class": n_smallest(source),
        "as_published": int("smallest_class" not in source),
        "download": int(source.get("download", False)),
    }


def class_images(artifact):
    """Return the images of all classes that an artifact's settings name."""
    return kept(member_files(artifact.ancestor("images"), artifact.settings["classes"]))


def teacher_inputs(artifact):
    """Return what a teacher is made from: images, and its weights if it is loaded."""
    loaded = [t["weights"] for t in plan.given[artifact.name] if "weights" in t][:1]
    weights = [one["file"] for one in loaded if "file" in one]
    files = given(weights, "a teacher's weights.file", [artifact.file("model.safetensors")])
    return {"images": class_images(artifact), "weights": files}


def denoiser_inputs(artifact):
    """Return what a denoiser is trained on; nothing for a given one."""
    return {"images": class_images(artifact)} if "images" in artifact.upstream else {}


def synthesis_inputs(artifact, members):
    """Return what batches are synthesised from: observers, their statistics, what they start as."""
    upstream, chosen = artifact.upstream, artifact.settings
    collected = [part for name, part in upstream.items() if name.startswith("statistics")]
    found = {
        "teachers": lambda w: teacher_files(artifact, batch_files(artifact, members)),
        "statistics": kept([part.file("statistics.safetensors") for part in collected]),
    }
    if "initial" in upstream:
        found["initial"] = kept([upstream["initial"].file("images.parquet")])
    if "images" in upstream:
        several = batches(chosen, artifact.keys["ipc"])
        labels = sorted({label for number in members for label, _ in several[number]})
        found["images"] = kept(
            member_files(upstream["images"], [chosen["classes"][label] for label in labels])
        )
    return found


def feature_inputs(artifact, class_ids):
    """Return what features describe, by name: images, their latents, the patches' scores."""
    upstream = dict(artifact.upstream)
    upstream.pop("teacher", None)
    denoiser = upstream.pop("denoiser", None)
    found = {name: kept(member_files(part, class_ids)) for name, part in upstream.items()}
    return found | ({"denoiser": kept([denoiser.file("denoiser.json")])} if denoiser else {})


def distilled_inputs(artifact):
    """Return the files of classes or batches that a method's set is put together from."""
    classes, upstream = artifact.settings["classes"], artifact.upstream
    return {
        name: kept(batch_files(part) if part.stage == "synthesis" else member_files(part, classes))
        for name, part in upstream.items()
    }


def teacher_files(artifact, outputs):
    """Return the weights of all teachers that an artifact is made from.

    Where outputs are still to be made, all of them have to be good enough.
    """
    parts = [part for name, part in artifact.upstream.items() if name.startswith("teacher")]
    missing = not all(Path(output).exists() for output in outputs)
    for part in parts if missing else ():
        try:
            check_existing(part, plan.min_accuracy(part))
        except StillhouseError as error:
            stop(f"{CONFIGS}: teachers: {error}")
    return kept([part.file("model.safetensors") for part in parts])


def label_files(artifact):
    """Return the label table that students learn from, if they learn from one."""
    labels = artifact.upstream.get("labels")
    return kept([labels.file("labels.parquet")]) if labels else []
