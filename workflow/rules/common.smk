"""The plan of artifacts, built from the config alone; wildcards; resources of jobs."""

import functools
import json
import os
from pathlib import Path

# A process keeps its memory until it ends: by default glibc returns the memory of every large tensor
# to the system and requests it again, which is a fifth of the time of small trainings.
for threshold in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(threshold, str(2**30))

from snakemake.exceptions import WorkflowError

from stillhouse.artifacts.foreign_files import check_results
from stillhouse.artifacts.manifests import shown as shown_by
from stillhouse.artifacts.stages import REPORT_VERSIONS, SHARED
from stillhouse.config.load import complete, located, wants_gpu
from stillhouse.data.sources.catalogue import n_smallest, roots
from stillhouse.errors import StillhouseError
from stillhouse.methods.registry import stages
from stillhouse.planning import reports
from stillhouse.planning.inputs import (
    check_files,
    check_user_files,
    declared_inputs,
    user_files,
    weight_folders,
)
from stillhouse.planning.plan import build
from stillhouse.planning.resources import Requests
from stillhouse.training.teacher_accuracy import check_existing

command_line = ["--config"] if workflow.config_settings.config else []
CONFIGS = ", ".join([*map(str, workflow.configfiles), *command_line])
try:
    check_results("results")
    settings = complete(config, CONFIGS, workflow.configfiles)
    with located(CONFIGS, workflow.configfiles):
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
    place=r".+",
    seed=r"-?\d+",
    spec=r"[^/]+",


COMPUTE = settings["compute"]
REQUESTS = Requests(settings, "cuda" if wants_gpu(COMPUTE["device"]) else "cpu")
# Without a number of GPUs in --resources or in a profile, jobs use one, or those of one training.
if "gpu" not in workflow.global_resources:
    gpus = COMPUTE["jobs_per_gpu"] * REQUESTS.most_processes(plan)
    workflow.register_resource("gpu", gpus)

# Settings outside of addresses are `resources`, which hold numbers and text alone.
LIGHT = {
    "checkpoint_seconds": str(COMPUTE["checkpoint_seconds"]),
    "source_roots": json.dumps(roots(settings["sources"])),
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
    """Return the artifact that wildcards name; raise if the config does not need it."""
    try:
        return plan.artifacts[stage][w.place]
    except KeyError:
        raise WorkflowError(f"results/{stage}/{w.place}: not in this config; see snakemake -n")


def computing(stage):
    """Return the resources of a stage's jobs; memory and time limit are for clusters."""
    limits = {name: functools.partial(asked, stage, name) for name in ("mem_mb", "runtime")}
    if stages()[stage].distributed:
        limits["processes"] = functools.partial(processes, stage)
        limits["gpu"] = lambda w: HEAVY["gpu"] * processes(stage, w)
        # Processes of a job communicate within one machine.
        limits |= {"nodes": 1} if COMPUTE["processes"] > 1 else {}
    return (HEAVY if stages()[stage].on_device else LIGHT) | limits


def asked(stage, name, w, attempt):
    """Return a resource that a job of a stage asks a cluster for."""
    if stages()[stage].member:
        own, n_members = block(stage, w).artifact, len(block(stage, w).members)
    else:
        own, n_members = wanted(stage, w), 1
    return REQUESTS.asked(own, n_members, attempt)[name]


def processes(stage, w):
    """Return the number of processes that a job of a stage without members starts."""
    return REQUESTS.processes(wanted(stage, w))


def threads_of(stage):
    """Return the threads of a stage's jobs, all processes together."""
    return lambda w: COMPUTE["threads"] * processes(stage, w)


def block(stage, w):
    """Return the block of members that wildcards name."""
    try:
        return plan.families[stage][w.family].blocks[w.block]
    except KeyError:
        raise WorkflowError(
            f"results/manifests/{stage}/{w.family}/{w.block}.json: not in this config; "
            "see snakemake -n"
        )


def index_source(w):
    """Return the settings of the source that an index is of."""
    return settings["sources"][wanted("index", w).settings["name"]]


def cells_of(w):
    """Return the cells of an experiment, in the order of its table."""
    if w.experiment not in plan.experiments:
        raise WorkflowError(f"experiment {w.experiment}: not in this config; see snakemake -n")
    return plan.experiments[w.experiment]


@functools.cache
def figures_of(experiment):
    """Return the figures of an experiment, see `reports.figures`."""
    return reports.figures(plan.experiments[experiment])


def figure_inputs(name, w):
    """Return {name: (artifact, members)} of what a figure shows."""
    try:
        figure, inputs, _ = figures_of(w.experiment)[name, w.method, int(w.seed)]
    except KeyError:
        raise WorkflowError(
            f"experiment {w.experiment}: has no figure {name} of {w.method}, seed {w.seed}; "
            "see snakemake -n"
        )
    return {
        what: (artifact, list(members)[: figure.classes or None])
        for what, (artifact, members) in inputs.items()
    }


@functools.cache
def contents_of(experiment):
    """Return a digest of what the tables, charts and curves of an experiment show."""
    return reports.table_contents(plan.experiments[experiment])


def table_contents(w):
    """Return the digest of `contents_of`, or say that the config lacks the experiment."""
    return contents_of(w.experiment) if cells_of(w) else ""


def shown(path, caption, category, what):
    """Show a file of an experiment in `snakemake --report`."""
    labels = {"experiment": "{experiment}", "what": what}
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)
