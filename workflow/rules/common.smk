"""The plan of artifacts, made from the config alone; wildcards; what rules share."""

import functools
import json
import os
import sys
from pathlib import Path

# Memory stays with a process until it ends: glibc would return every large tensor's memory to the
# system and ask for it again, which is a fifth of the time of small trainings.
for threshold in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(threshold, str(2**30))

from snakemake.exceptions import WorkflowError

from stillhouse.artifacts.stages import REPORT_VERSIONS
from stillhouse.config.load import complete, wants_gpu
from stillhouse.data.sources.catalogue import n_smallest
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry
from stillhouse.methods.registry import stages
from stillhouse.planning.inputs import declared_inputs, figures, weight_folders
from stillhouse.planning.plan import build
from stillhouse.training.teacher_accuracy import check_existing

command_line = ["--config"] if workflow.config_settings.config else []
CONFIGS = ", ".join([*map(str, workflow.configfiles), *command_line])
try:
    settings = complete(config, CONFIGS, workflow.configfiles)
    plan = build(settings)
    folders = weight_folders(settings)
except StillhouseError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    block=r"\d+-[0-9a-f]+",
    dataset=r"[^/]+",
    experiment=r"[^/]+",
    family=r"[^/]+",
    ipc=r"\d+",
    method=r"[^/]+",
    seed=r"-?\d+",
    spec=r"[^/]+",


COMPUTE = settings["compute"]
# What shapes no artifact goes through `resources`, which hold no more than numbers and text.
roots = {name: source["root"] for name, source in settings["sources"].items() if "root" in source}
LIGHT = {
    "checkpoint_seconds": str(COMPUTE["checkpoint_seconds"]),
    "source_roots": json.dumps(roots),
    "torch_threads": COMPUTE["threads"],
}
HEAVY = {
    **LIGHT,
    "batch_size": COMPUTE["batch_size"],
    "device": COMPUTE["device"],
    "gpu": int(wants_gpu(COMPUTE["device"])),
    "weight_folders": json.dumps(folders),
}


def wanted(stage, w):
    """Return the artifact that wildcards name, or say that the config does not want it."""
    named = w.spec if stage != "distilled" else f"{w.dataset}/{w.spec}/ipc{w.ipc}-seed{w.seed}"
    try:
        return plan.artifacts[stage][named]
    except KeyError:
        raise WorkflowError(f"results/{stage}/{named}: not in this config; see snakemake -n")


def block(stage, w):
    """Return the block of members that wildcards name."""
    try:
        return plan.families[stage][w.family].blocks[w.block]
    except KeyError:
        raise WorkflowError(
            f"results/manifests/{stage}/{w.family}/{w.block}.json: not in this config; "
            "see snakemake -n"
        )


def stop(message):
    """End the run with one line.

    For what an input function finds: Snakemake takes an error there to mean that a file is not
    made by this rule, and where an older file of the name exists, goes on without the job.
    """
    sys.exit(f"error: {CONFIGS}: {message}")


def unchanged(paths):
    """Take artifacts as they are: what lies at an address never changes."""
    return [ancient(path) for path in paths]


def artifact_inputs(stage, w):
    """Return the declared inputs of an artifact that is stored as one."""
    artifact = wanted(stage, w)
    return {**inputs_of(artifact, (), artifact.file), **user_files(artifact, artifact.file)}


def block_inputs(stage, w):
    """Return the declared inputs of the members of one job."""
    chosen = block(stage, w)
    inputs = inputs_of(chosen.artifact, chosen.members, chosen.manifest)
    return {**inputs, **user_files(chosen.artifact, chosen.manifest)}


def inputs_of(artifact, members, output):
    """Return the declared inputs; where the output is missing, teachers have to be good enough."""
    if not Path(output).exists():
        for part in [part for _, part in artifact.parts() if part.stage.name == "teacher"]:
            check_teacher(part.name)
    inputs = declared_inputs(plan, artifact, members)
    return {name: unchanged(paths) for name, paths in inputs.items()}


@functools.cache
def check_teacher(name):
    """Compare a teacher that exists with the `min_accuracy` of the config."""
    artifact = next(one for one in plan.artifacts["teacher"].values() if one.name == name)
    try:
        check_existing(artifact, plan.min_accuracy(artifact))
    except StillhouseError as error:
        stop(f"teachers: {error}")


def user_files(artifact, output):
    """Return the user's own files that an artifact is made from, {name: paths}.

    Of a folder that a source lies in, no more is asked than that it exists: Snakemake would look
    at the time of change of a million files, and the index has their checksums.
    """
    if artifact.stage.name == "teacher":
        files = [one.get("weights", {}).get("file") for one in plan.teacher_configs[artifact.name]]
        found = {"weights": ("a teacher's weights.file", [f for f in files if f][:1])}
    elif artifact.stage.name in ("index", "images"):
        index = artifact.upstream.get("index", artifact)
        name = index.settings["name"]
        source = settings["sources"][name]
        if "root" in source and not source.get("download"):
            exist([source["root"]], f"sources.{name}.root", output)
        splits = ("train", "test") if source["kind"] == "parquet" else ()
        found = {split: (f"sources.{name}.{split}", source[split]) for split in splits}
    else:
        return {}
    for key, paths in found.values():
        exist(paths, key, output)
    return {name: unchanged(paths) for name, (_, paths) in found.items()}


def exist(paths, key, output):
    """Say which of the user's files is missing where it is needed."""
    missing = [path for path in paths if not Path(path).exists()]
    if missing and not Path(output).exists():
        stop(f"{key}: file not found: {missing[0]}")
