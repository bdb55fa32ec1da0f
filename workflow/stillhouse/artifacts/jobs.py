"""Jobs of stages: log, threads, device, timing, skipping of complete members.

A stage is a function ``stage(inputs, spec, context)`` that loads what all members share (for
example a teacher) and returns ``make(member, context)``, which computes one member and returns its
files. The member is None for an artifact without members; `spec` is that of the first member.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
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

from stillhouse.artifacts import finite, machine_faults, manifests, progress, store
from stillhouse.artifacts.addresses import RESULTS, digest, member_spec
from stillhouse.artifacts.context import AUTO_BATCH, WORK, Context, device_name
from stillhouse.artifacts.locks import lock
from stillhouse.errors import StillhouseError

PACKAGES = ("numpy", "pyarrow", "torch", "torchvision")
# Numerical libraries read these when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ARTIFACT = "artifact.json"


@contextlib.contextmanager
def process_of_one_job():
    """Start and end a process of a single job quickly; the process ends with the context.

    Libraries are imported without garbage collection, and objects are not deallocated at the end:
    of a process that only imports torch, both save a quarter of the time; with diffusers, a third.
    """
    gc.disable()
    yield
    atexit._run_exitfuncs()
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)  # what C code has printed
    os._exit(0)


def _collect_garbage():
    """Collect garbage again, once libraries are imported, and not of what they have created."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def run_stage(job, stage, inputs):
    """Compute the artifact of a workflow job, or the members of its block.

    Parameters
    ----------
    job : object
        Has ``input``, ``output``, ``params``, ``resources`` and ``log`` as a Snakemake script's
        job object does. ``params.spec`` is the spec of the artifact, ``params.members`` the members
        to compute. When all are complete, ``output.manifest`` lists their files.
    stage : Stage
    inputs : dict
        Files of the upstream, see `stillhouse.planning.inputs.job_inputs`. Files of the user, under
        further names of `job.input`, are added as lists.
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

    _report_errors(run, stage.lowered)


def run_report(function, job):
    """Run ``function(inputs, params, outputs)`` for a job that draws tables or figures.

    Outputs have paths without a digest and are redrawn when their inputs or params change. The
    location of images and the names of the config's files are no such change: `source_roots` and
    `config` are resources, added to `params` here. ``params.contents``, a digest of what the
    outputs show, is recorded when they are made, see `manifests.shown`.
    """
    _redirect(job.log[0])
    inputs = {name: _paths(value) for name, value in job.input.items()}
    outputs = {name: Path(path) for name, path in job.output.items()}
    resources = dict(job.resources.items())
    source_roots = json.loads(resources.get("source_roots", "{}"))
    limit_threads(1)
    _collect_garbage()
    own = {"source_roots": source_roots, "config": resources.get("config", "")}
    params = {**dict(job.params.items()), **own}

    def run():
        function(inputs, params, outputs)
        for path in outputs.values() if "contents" in params else ():
            manifests.record_shown(path, params["contents"])

    _report_errors(run)


def limit_threads(count):
    """Set the number of threads of all libraries, since sums of floats depend on it."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if {"numpy", "sklearn", "torch"} & sys.modules.keys():
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)


def _report_errors(function, lowered="compute.batch_size"):
    """Call a function; print errors of the user and the machine as one line, not as a traceback.

    `lowered` names the settings to lower when memory runs out.
    """
    try:
        function()
    except Exception as error:
        text = one_line(error, lowered)
        if text is None:
            raise
        try:
            print(f"error: {text}", flush=True)
        except OSError:  # no room for the log either
            print(f"error: {text}", file=progress.console(), flush=True)
        sys.exit(1)


def one_line(error, lowered):
    """Return the message of an error of the user or the machine; None for any other."""
    if isinstance(error, store.Missing | store.Damaged):
        return f"{error}{manifests.forget(error.path)}"
    if isinstance(error, StillhouseError):
        return str(error)
    return machine_faults.of_job(error, RESULTS, lowered)


def produce(stage, inputs, spec, members, resources):
    """Compute an artifact, or its incomplete members.

    Parameters
    ----------
    stage : Stage
    inputs : dict
    spec : dict
        Of the artifact.
    members : sequence
        Empty for an artifact without members.
    resources : dict
        Values for `Context`, by name; other names are passed in ``extra``.
    """
    specs = {member: member_spec(spec, stage.member, member) for member in members}
    specs = specs or {None: spec}
    if members and Path(spec["address"]).is_dir():
        # Complete members need it, and are not computed again if it was damaged.
        store.write_lineage(spec)
    remove_stale_checkpoints()
    missing = [m for m, own in specs.items() if not is_complete(own, stage.files)]
    for member in specs:
        if member not in missing:
            print(f"{specs[member]['address']}: complete", flush=True)
    if not missing:
        return
    shared = _shared(resources, tuple(missing))
    started, make = time.perf_counter(), None
    for member in missing:
        own = specs[member]
        work = WORK / f"{own['stage']}-{digest(own)}"
        with lock(work.with_suffix(".lock")):
            if is_complete(own, stage.files):
                print(f"{own['address']}: complete", flush=True)
                continue
            work.mkdir(parents=True, exist_ok=True)
            (work / ARTIFACT).write_text(json.dumps([own, stage.files]))
            context = Context(work=work, earlier=_earlier(work), **shared)
            if make is None:
                make = load_stage(stage, inputs, own, context)
                setup = (time.perf_counter() - started) / len(missing)
            started = time.perf_counter()
            files = make(member, context)
            before = setup + context.earlier - started
            timing = functools.partial(_timing, before, context)
            store.write(own["address"], own, files, timing, spec if members else None)
            seconds = time.perf_counter() + before
            print(f"{own['address']}: computed in {seconds:.1f} s", flush=True)
            shutil.rmtree(work, ignore_errors=True)


def _shared(resources, members):
    """Return the fields of a `Context` that all members of a job share."""
    known = {"device", "processes", "batch_size", "checkpoint_seconds"}
    known |= {"source_roots", "weight_folders"}
    shared = {k: v for k, v in resources.items() if k in known}
    if shared.get("batch_size") == "auto":
        own = {name: shared[name] for name in ("device", "processes") if name in shared}
        device = Context(**own).torch_device()
        shared["batch_size"] = AUTO_BATCH[device.type]
    shared["extra"] = {k: v for k, v in resources.items() if k not in known}
    return {**shared, "keys": members}


def load_stage(stage, inputs, spec, context):
    """Import and call a stage's function, which loads what its members share."""
    function = stage.load() if context.processes == 1 else stage.launched()
    if "torch_threads" in context.extra:
        limit_threads(int(context.extra["torch_threads"]))
    _collect_garbage()
    return function(inputs, spec, context)


def remove_stale_checkpoints():
    """Remove checkpoints of complete artifacts, left by jobs killed before removing them."""
    for path in WORK.glob(f"*/{ARTIFACT}"):
        try:
            spec, files = json.loads(path.read_text())
            finished = is_complete(spec, files)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue
        if finished:
            with lock(path.parent.with_suffix(".lock")):
                shutil.rmtree(path.parent, ignore_errors=True)


def is_complete(spec, files):
    """Return whether the files of an artifact exist, undamaged and made by its spec."""
    return store.is_complete(spec["address"], spec, files)


def note_seconds(context, seconds):
    """Store the seconds that all jobs have spent on an artifact beside its checkpoint."""
    (context.work / "seconds.json").write_text(json.dumps(context.earlier + seconds))


def _earlier(work):
    try:
        return float(finite.read_json((work / "seconds.json").read_text()))
    except (OSError, ValueError, TypeError, RecursionError, finite.NotFinite):
        return 0.0


def _paths(value):
    return [Path(value)] if isinstance(value, str) else [Path(path) for path in value]


def _timing(before, context):
    """Return the content of ``timing.json``; seconds are `before` plus the current clock."""
    return {
        "seconds": round(time.perf_counter() + before, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "device": device_name(context),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _packages()}},
        "commit": _commit(),
    }


def _packages():
    """Return the packages whose versions are recorded; of network libraries, those imported."""
    return [*PACKAGES, *sorted({"diffusers", "timm", "transformers"} & sys.modules.keys())]


@functools.cache
def _commit():
    """Return the commit of this package, marked if files have changed; empty without git."""
    command = ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _redirect(log, label=""):
    """Redirect standard output and error, also of C code, to the log; keep one for progress."""
    progress.keep_console(os.dup(2), label)
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        print(f"error: {log}: {error.strerror}; make room or change permissions", file=sys.stderr)
        sys.exit(1)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    print(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}", flush=True)
