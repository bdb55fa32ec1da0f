"""One of the processes of a stage: ``python -m stillhouse.training.worker job.json NUMBER``.

`stillhouse.training.launcher` starts it. Process 0 prints, stores checkpoints and writes the files
of the stage; the others compute their rows of each step.
"""

import json
import math
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

from stillhouse.artifacts import formats, jobs, progress
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.stages import Stage

# Files beside the description: [name, path] of the stage's files, and the error of a process.
FILES, ERROR = "files.json", "error-{}.json"
HOST = "localhost"


def main(path, rank):
    """Compute the stage that a file describes; report an error in a file beside it."""
    job = json.loads(Path(path).read_text())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_job, daemon=True).start()
    _redirect(rank, job["spec"]["address"].removeprefix("results/"))
    stage = Stage(**job["stage"])
    try:
        _compute(stage, job, rank, Path(path).parent)
    except Exception as error:
        report = {"time": time.time(), "line": jobs.one_line(error, stage.lowered) or ""}
        report["trace"] = traceback.format_exc()
        try:
            # Complete or missing: the job ends this process if another one has failed.
            formats.save_json(Path(path).parent / ERROR.format(rank), report)
            sys.stdout.flush()
        finally:
            os._exit(1)  # without waiting for the other processes


def _compute(stage, job, rank, folder):
    """Compute the stage; process 0 writes its files and their list."""
    from torch.distributed import TCPStore

    from stillhouse.training import distributed

    context = _context(job, rank)
    store = TCPStore(HOST, job["port"], is_master=False)
    distributed.join(context.torch_device(), store, rank, len(job["devices"]))
    make = jobs.load_stage(stage, _as_paths(job["inputs"]), job["spec"], context)
    files = make(job["member"], context)
    if rank == 0:
        written = [
            (name, str(formats.write_temporary(folder, name, content)))
            for name, content in files.items()
        ]
        formats.save_json(folder / FILES, written)
    distributed.leave()


def _context(job, rank):
    """Return the `Context` of a process; those without number 0 store no checkpoints."""
    resources = {**job["resources"], "device": job["devices"][rank]}
    resources |= {"work": Path(resources["work"]), "keys": tuple(resources["keys"])}
    if rank:
        resources["checkpoint_seconds"] = math.inf
    return Context(**resources)


def _as_paths(inputs):
    """Return inputs of a stage, whose paths are text, with paths."""
    if isinstance(inputs, dict):
        return {name: _as_paths(value) for name, value in inputs.items()}
    if isinstance(inputs, list):
        return [_as_paths(value) for value in inputs]
    return Path(inputs)


def _redirect(rank, label):
    """Print to the log alone; keep the console for the progress of process 0."""
    if rank == 0:
        progress.keep_console(os.dup(2), label)
    else:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        warnings.simplefilter("ignore")
    os.dup2(1, 2)


def _end_with_job():
    """End this process when the job ends, which closes the other end of standard input."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
