"""Running one stage as one job: log, threads, device, timing, skipping what is whole.

A stage is a function ``stage(inputs, spec, context)`` that loads what all its artifacts share (a
teacher, say) and returns ``make(key, context)``, which computes one artifact and returns its files.
The key is the class id of a per-class artifact, the seed of a student, None where there is just
one; `spec` is the first artifact's.
"""

import contextlib
import fcntl
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

from stillhouse.artifacts import progress, store
from stillhouse.artifacts.addresses import RESULTS, digest
from stillhouse.errors import StillhouseError

# Images a forward pass, where compute.batch_size is auto: of more, a CPU's caches hold too little.
AUTO_BATCH = {"cpu": 64, "cuda": 256}
PACKAGES = ("numpy", "pyarrow", "torch", "torchvision")


@dataclass(frozen=True)
class Context:
    """What a stage may use that does not shape its result.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    batch_size : int
        Images a forward pass without gradients.
    checkpoint_seconds : float
        Time between two writings of a side file.
    work : Path
        Folder of side files for the artifact being made; survives a kill, carries its digest.
    earlier : float
        Seconds that killed tries at this artifact had spent when they last noted it.
    keys : tuple
        The keys that this job will make, in order.
    source_roots : dict of str to str
        Root folder by source, for sources that have one.
    weight_folders : dict of str to str
        Folder by the digest of its files, for pretrained weights in local folders.
    extra : dict
        Resources that only one stage knows (a teacher's lowest accuracy).
    """

    device: str = "cpu"
    batch_size: int = 64
    checkpoint_seconds: float = 60.0
    work: Path = RESULTS / ".work"
    earlier: float = 0.0
    keys: tuple = ()
    source_roots: dict = field(default_factory=dict)
    weight_folders: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)

    def torch_device(self):
        """Return the torch device to compute on; the same GPU at every call of a process."""
        import torch

        if self.device == "cpu" or (self.device == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        count = torch.cuda.device_count()
        asked = torch.device("cuda" if self.device == "auto" else self.device)
        if (asked.index or 0) >= count:
            raise StillhouseError(
                f"compute.device: is {self.device!r}, but torch sees {count} GPUs here; should be "
                "auto or cpu"
            )
        _exact_cuda()
        return torch.device("cuda", _free_gpu(count) if asked.index is None else asked.index)


def _exact_cuda():
    """Have a GPU add up in the same order every time, and in whole float32."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@functools.cache
def _free_gpu(count):
    """Return the number of a GPU that no other job of this working directory is using.

    With ``--resources gpu=N``, N jobs run at once, and each takes one; where all are taken, any
    is shared.
    """
    (RESULTS / ".work").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"gpu{number}-{platform.node()}.lock"
        stream = open(RESULTS / ".work" / name, "w")  # noqa: SIM115
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.append(stream)  # until the process ends
            return number
        stream.close()
    return os.getpid() % count


_held = []


def run(stage, job):
    """Run a stage for one workflow job and write its artifacts.

    Parameters
    ----------
    stage : callable
        See the module.
    job : object
        Has ``input``, ``output``, ``params``, ``resources`` and ``log`` as a Snakemake script's
        job object does; for ``params`` see `_artifacts`.
    """
    _redirect(job.log[0])
    resources = dict(job.resources.items())
    if "checkpoint_seconds" in resources:
        resources["checkpoint_seconds"] = float(resources["checkpoint_seconds"])
    for name in ("source_roots", "weight_folders"):
        if name in resources:
            resources[name] = json.loads(resources[name])
    wanted = _artifacts(job.params, [Path(path) for path in job.output])
    inputs = {name: _paths(value) for name, value in job.input.items()}
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(resources["torch_threads"]))
    _report_errors(produce, stage, inputs, wanted, resources)


def run_for_people(function, job):
    """Run ``function(inputs, params, outputs)`` for a job that makes tables or figures.

    They lie at paths without a digest and are made anew whenever what they show has changed.
    Where images lie that are kept by reference is no such change: of the resources, ``roots`` come
    to `params`.
    """
    _redirect(job.log[0])
    inputs = {name: _paths(value) for name, value in job.input.items()}
    outputs = {name: Path(path) for name, path in job.output.items()}
    roots = json.loads(dict(job.resources.items()).get("source_roots", "{}"))
    _report_errors(function, inputs, {**dict(job.params.items()), "roots": roots}, outputs)


def _report_errors(function, *arguments):
    """Call a function; say a user's error in one line, leave any other its trace."""
    try:
        function(*arguments)
    except StillhouseError as error:
        print(f"error: {error}", flush=True)
        sys.exit(1)


def produce(stage, inputs, wanted, resources):
    """Make those artifacts of `wanted` that are not whole yet.

    Parameters
    ----------
    stage : callable
    inputs : dict of str to list of Path
    wanted : list of (spec, key, names)
        `names` are the file names to be made in ``spec["address"]``.
    resources : dict
        Values for `Context`, by name; unknown ones land in ``extra``.
    """
    known = {"device", "batch_size", "checkpoint_seconds", "source_roots", "weight_folders"}
    shared = {k: v for k, v in resources.items() if k in known}
    if shared.get("batch_size") == "auto":
        device = Context(device=shared["device"]).torch_device()
        shared["batch_size"] = AUTO_BATCH[device.type]
    shared["extra"] = {k: v for k, v in resources.items() if k not in known}
    shared["keys"] = tuple(key for spec, key, names in wanted if not _is_whole(spec, names))
    _sweep()
    make, setup = None, 0.0
    for spec, key, names in wanted:
        work = RESULTS / ".work" / f"{spec['stage']}-{digest(spec)}"
        with lock(work, json.dumps([spec, names])):
            if _is_whole(spec, names):
                print(f"{spec['address']}: whole already", flush=True)
                continue
            context = Context(work=work, earlier=_earlier(work), **shared)
            started = time.perf_counter()
            if make is None:
                make = stage(inputs, spec, context)
                setup = (time.perf_counter() - started) / max(len(shared["keys"]), 1)
                started = time.perf_counter()
            files = make(key, context)
            before = setup + context.earlier - started
            timing = functools.partial(_timing, before, context)
            store.write(spec["address"], spec, files, timing)
            seconds = time.perf_counter() + before
            print(f"{spec['address']}: made in {seconds:.1f} s", flush=True)
            shutil.rmtree(work, ignore_errors=True)


def _sweep():
    """Remove the side files of what is whole: whoever made it was killed before it did so."""
    for path in (RESULTS / ".work").glob("*.lock"):
        with contextlib.suppress(OSError, ValueError):
            spec, names = json.loads(path.read_text())
            if _is_whole(spec, names):
                work = path.with_suffix("")
                with lock(work):
                    shutil.rmtree(work, ignore_errors=True)


def _is_whole(spec, names):
    return store.is_whole(spec["address"], spec, names)


def note_seconds(context, seconds):
    """Keep with a side file how long its artifact has been in the making, over all tries."""
    (context.work / "seconds.json").write_text(json.dumps(context.earlier + seconds))


def _earlier(work):
    try:
        return float(json.loads((work / "seconds.json").read_text()))
    except (OSError, ValueError):
        return 0.0


def _artifacts(params, outputs):
    """Return (spec, key, names) for every artifact folder among a job's outputs.

    ``params.spec`` belongs to the artifact itself, or, where ``params.member`` names a key
    ("class_id", "student_seed" or "batch"), to the family whose members the output folders are.
    """
    spec, member = params.spec, params.get("member")
    folders = {}
    for path in outputs:
        folders.setdefault(path.parent, []).append(path.name)
    if member is None:
        return [(spec, None, names) for names in folders.values()]
    wanted = []
    for folder, names in folders.items():
        number = re.search(r"-?\d+$", folder.name)
        key = unquote(folder.name) if member == "class_id" else int(number[0])
        keys = {**spec["keys"], member: key}
        wanted.append(({**spec, "keys": keys, "address": str(folder)}, key, names))
    return wanted


def _paths(value):
    return [Path(value)] if isinstance(value, str) else [Path(path) for path in value]


def _timing(before, context):
    """Return what ``timing.json`` says; `before` + the clock now is the artifact's seconds."""
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
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def device_name(context):
    """Return the name of the GPU that a job computes on, or of the processor and its threads."""
    torch = sys.modules.get("torch")
    if torch is not None and context.torch_device().type == "cuda":
        return torch.cuda.get_device_name(context.torch_device())
    names = []
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as stream:
        names = [line.split(":")[1].strip() for line in stream if line.startswith("model name")]
    threads = torch.get_num_threads() if torch is not None else 1
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' * (threads > 1)}"


@contextlib.contextmanager
def lock(work, about=""):
    """Hold the lock of a folder that is being filled: whoever else fills it is waited for.

    So a job that outlived its killed workflow is waited for. The lock file says what it is about.
    """
    work.parent.mkdir(parents=True, exist_ok=True)
    path, held = work.with_suffix(".lock"), False
    while not held:
        with open(path, "a") as stream:
            # A file system without locks loses only the waiting: writers rename whole files.
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            # Whoever held it has unlinked it meanwhile: the lock is another file now.
            held = path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat())
            if held:
                stream.truncate(0)
                stream.write(about)
                stream.flush()
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)


def _redirect(log):
    """Send standard output and error, of C code too, to the job's log; keep a terminal for bars."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    progress.keep_console(os.dup(2))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    print(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}", flush=True)
