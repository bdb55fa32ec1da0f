"""The plan of artifacts, made from the config alone; wildcards; what rules share."""

import os
import sys
from pathlib import Path

PACKAGE = str(Path(workflow.basedir) / "workflow")
sys.path.insert(0, PACKAGE)
# Scripts run in processes of their own.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([PACKAGE, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
).rstrip(os.pathsep)

from snakemake.exceptions import WorkflowError

from stillhouse.config import complete
from stillhouse.errors import StillhouseError
from stillhouse.plan import build, member_files
from stillhouse.spec import class_of, label, safe_name

try:
    settings = complete(config, ", ".join(map(str, workflow.configfiles)) or "--config")
    plan = build(settings)
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
# Shapes no artifact, hence no `params`.
HEAVY = {
    "batch_size": COMPUTE["batch_size"],
    "checkpoint_seconds": str(COMPUTE["checkpoint_seconds"]),
    "device": COMPUTE["device"],
    "gpu": int(
        COMPUTE["device"].startswith("cuda")
        or COMPUTE["device"] == "auto"
        and Path("/dev/nvidiactl").exists()
    ),
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


def block_name(stage, artifact, members):
    """Return the name of a block rule: stage, first and last member, digest."""
    keys = [f"{name}{value}" for name, value in artifact.keys.items()]
    return "_".join([stage, *keys, label(members[0]), label(members[-1]), artifact.digest])


def log_of(artifact, members):
    """Return the log of a block's job."""
    return f"results/logs/{artifact.directory.relative_to('results')}/{safe_name(members[0])}.log"


def benchmark_of(artifact, members):
    """Return the benchmark file of a block's job."""
    return log_of(artifact, members).replace("/logs/", "/benchmarks/").removesuffix("log") + "jsonl"


def sheet_of(distilled):
    """Return the path of a distilled set's contact sheet."""
    return str(distilled.directory).replace("results/distilled/", "results/figures/") + ".png"
