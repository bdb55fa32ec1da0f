"""Running one stage as one job: log, threads, device, timing, skipping what is complete.

A stage is a function ``stage(inputs, spec, context)`` that loads what all members share (a teacher,
say) and returns ``make(member, context)``, which computes one of them and returns its files. The
member is None where the artifact is stored as one; `spec` is the first member's.
"""

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from stillhouse.artifacts import manifests, progress, store
from stillhouse.artifacts.addresses import digest, member_spec
from stillhouse.artifacts.context import WORK, Context, device_name
from stillhouse.artifacts.locks import lock
from stillhouse.errors import StillhouseError

# Images per forward pass where compute.batch_size is auto: more do not fit a CPU's caches.
AUTO_BATCH = {"cpu": 64, "cuda": 256}
PACKAGES = ("numpy", "pyarrow", "torch", "torchvision")
# What numerical libraries read when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ARTIFACT = "artifact.json"


def run_stage(job, stage, inputs):
    """Compute the artifact or the members that one workflow job wants.

    Parameters
    ----------
    job : object
        Has ``input``, ``output``, ``params``, ``resources`` and ``log`` as a Snakemake script's
        job object does. ``params.spec`` is the artifact's; ``params.members`` those wanted, whose
        files are listed in ``output.manifest`` when all are complete.
    stage : Stage
    inputs : dict
        The upstream's files, see `stillhouse.planning.inputs.job_inputs`. Files of the user's, for
        which `job.input` has further names, come to them as lists.
    """
    _redirect(job.log[0], job.params.spec["address"].removeprefix("results/"))
    resources = dict(job.resources.items())
    if "checkpoint_seconds" in resources:
        resources["checkpoint_seconds"] = float(resources["checkpoint_seconds"])
    for name in ("source_roots", "weight_folders"):
        resources[name] = json.loads(resources.get(name, "{}"))
    spec, members = job.params.spec, job.params.get("members", ())
    external = {n: _paths(v) for n, v in job.input.items() if n not in spec["upstream"]}
    limit_threads(int(resources["torch_threads"]))

    def run():
        produce(stage, {**external, **inputs}, spec, members, resources)
        if members:
            manifests.write(job.output.manifest, stage, spec, members)

    _report_errors(run)


def run_report(function, job):
    """Run ``function(inputs, params, outputs)`` for a job that draws tables or figures.

    They lie at paths without a digest and are drawn again whenever what they show has changed.
    Of the resources, `source_roots` come to `params`: where images lie is no such change.
    """
    _redirect(job.log[0])
    inputs = {name: _paths(value) for name, value in job.input.items()}
    outputs = {name: Path(path) for name, path in job.output.items()}
    source_roots = json.loads(dict(job.resources.items()).get("source_roots", "{}"))
    limit_threads(1)
    params = {**dict(job.params.items()), "source_roots": source_roots}
    _report_errors(lambda: function(inputs, params, outputs))


def limit_threads(count):
    """Compute with so many threads, whichever library: the sums of floats depend on it."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if {"numpy", "sklearn", "torch"} & sys.modules.keys():
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)


def _report_errors(function):
    """Call a function; print a user's error in one line, leave any other its trace."""
    try:
        function()
    except (store.Missing, store.Damaged) as error:
        print(f"error: {error}{manifests.forget(error.path)}", flush=True)
        sys.exit(1)
    except StillhouseError as error:
        print(f"error: {error}", flush=True)
        sys.exit(1)


def produce(stage, inputs, spec, members, resources):
    """Compute an artifact, or those of its members that are not complete yet.

    Parameters
    ----------
    stage : Stage
    inputs : dict
    spec : dict
        Of the artifact.
    members : sequence
        Empty where the artifact is stored as one.
    resources : dict
        Values for `Context`, by name; unknown ones come to ``extra``.
    """
    specs = {member: member_spec(spec, stage.member, member) for member in members}
    specs = specs or {None: spec}
    remove_stale_checkpoints()
    missing = [m for m, one in specs.items() if not is_complete(one, stage.files)]
    for member in specs:
        if member not in missing:
            print(f"{specs[member]['address']}: complete", flush=True)
    if not missing:
        return
    shared = _shared(resources, tuple(missing))
    started, make = time.perf_counter(), None
    for member in missing:
        one = specs[member]
        work = WORK / f"{one['stage']}-{digest(one)}"
        with lock(work.with_suffix(".lock")):
            if is_complete(one, stage.files):
                print(f"{one['address']}: complete", flush=True)
                continue
            work.mkdir(parents=True, exist_ok=True)
            (work / ARTIFACT).write_text(json.dumps([one, stage.files]))
            context = Context(work=work, earlier=_earlier(work), **shared)
            if make is None:
                make = _load(stage, inputs, one, context)
                setup = (time.perf_counter() - started) / len(missing)
            started = time.perf_counter()
            files = make(member, context)
            before = setup + context.earlier - started
            store.write(one["address"], one, files, functools.partial(_timing, before, context))
            seconds = time.perf_counter() + before
            print(f"{one['address']}: computed in {seconds:.1f} s", flush=True)
            shutil.rmtree(work, ignore_errors=True)


def _shared(resources, members):
    """Return the part of a `Context` that all members of a job have."""
    known = {"device", "batch_size", "checkpoint_seconds", "source_roots", "weight_folders"}
    shared = {k: v for k, v in resources.items() if k in known}
    if shared.get("batch_size") == "auto":
        device = Context(device=shared["device"]).torch_device()
        shared["batch_size"] = AUTO_BATCH[device.type]
    shared["extra"] = {k: v for k, v in resources.items() if k not in known}
    return {**shared, "keys": members}


def _load(stage, inputs, spec, context):
    """Import a stage's function and let it load what its members share."""
    function = stage.load()
    if "torch_threads" in context.extra:
        limit_threads(int(context.extra["torch_threads"]))
    return function(inputs, spec, context)


def remove_stale_checkpoints():
    """Remove checkpoints of complete artifacts: their job was killed before it did so."""
    for path in WORK.glob(f"*/{ARTIFACT}"):
        try:
            spec, files = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if is_complete(spec, files):
            with lock(path.parent.with_suffix(".lock")):
                shutil.rmtree(path.parent, ignore_errors=True)


def is_complete(spec, files):
    """Return whether the files of an artifact exist, undamaged and made by its spec."""
    return store.is_complete(spec["address"], spec, files)


def note_seconds(context, seconds):
    """Store beside a checkpoint how long its artifact has taken so far, over all jobs."""
    (context.work / "seconds.json").write_text(json.dumps(context.earlier + seconds))


def _earlier(work):
    try:
        return float(json.loads((work / "seconds.json").read_text()))
    except (OSError, ValueError):
        return 0.0


def _paths(value):
    return [Path(value)] if isinstance(value, str) else [Path(path) for path in value]


def _timing(before, context):
    """Return the content of ``timing.json``; `before` + the clock now is the artifact's seconds."""
    return {
        "seconds": round(time.perf_counter() + before, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "device": device_name(context),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _packages()}},
        "commit": _commit(),
    }


def _packages():
    """Return the packages whose versions matter; of networks' libraries, those in use."""
    return [*PACKAGES, *sorted({"diffusers", "timm", "transformers"} & sys.modules.keys())]


@functools.cache
def _commit():
    """Return the commit of this package, with a mark if it was changed; empty without git."""
    command = ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _redirect(log, label=""):
    """Send standard output and error, of C code too, to the job's log; keep one for progress."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    progress.keep_console(os.dup(2), label)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    print(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}", flush=True)
