"""Stages that several processes compute: torch's launcher starts them, one of them writes.

The job itself has lock, log and timing, and writes the artifact, as with one process. It holds the
locks of the GPUs and waits for the processes of `stillhouse.training.worker`.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stillhouse.artifacts import progress
from stillhouse.errors import StillhouseError
from stillhouse.training.worker import ERROR, FILES

# Folder below ``context.work`` of the job's description, and of what its processes write.
FOLDER = "processes"
JOB = "job.json"
LOGGERS = ("torch.distributed.elastic", "torch.distributed.launcher")
# torch's launcher replaces the handlers of these.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def launched(stage, inputs, spec, context):
    """Return ``make(member, context)`` of a stage, computed by ``context.processes`` processes."""
    devices = [str(device) for device in context.torch_devices()]

    def make(member, context):
        folder = context.work / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        resources = {**asdict(context), "processes": 1}
        described = {"stage": asdict(stage), "inputs": inputs, "spec": spec, "member": member}
        described |= {"resources": resources, "devices": devices, "parent": os.getpid()}
        (folder / JOB).write_text(json.dumps(described, default=str))
        _run(folder, len(devices), stage.lowered)
        files = json.loads((folder / FILES).read_text())
        return {name: Path(path) for name, path in files}

    return make


def _run(folder, count, lowered):
    """Run the processes to their end; raise the error of the first that failed."""
    # Each of the launcher's modules has a logger with a level of its own.
    for name in [one for one in logging.root.manager.loggerDict if one.startswith(LOGGERS)]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=folder.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    launch = elastic_launch(config, sys.executable)
    try:
        with _own_signals(), _console_as_error_stream():
            launch("-m", "stillhouse.training.worker", str(folder / JOB))
    except ChildFailedError as error:
        raise _fault(folder, error, lowered) from None
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + error.sigval)


def _fault(folder, failed, lowered):
    """Return the exception of the process that failed first, without its consequences in others."""
    reports = [json.loads(path.read_text()) for path in folder.glob(ERROR.format("*"))]
    reports.sort(key=lambda report: (not report["line"], report["time"]))
    if reports and reports[0]["line"]:
        return StillhouseError(reports[0]["line"])
    # The launcher ends the other processes by SIGTERM.
    statuses = {rank: failure.exitcode for rank, failure in failed.failures.items()}
    killed = [rank for rank, status in statuses.items() if 0 > status != -signal.SIGTERM]
    if killed or not reports:
        rank = killed[0] if killed else failed.get_first_failure()[0]
        remedy = f"if memory is full, lower {lowered}, or compute.processes"
        if not killed:
            remedy = "see the log; if the disk is full, make room"
        return StillhouseError(f"process {rank} ended with status {statuses[rank]}; {remedy}")
    return RuntimeError(f"a process of the job failed:\n{reports[0]['trace']}")


@contextlib.contextmanager
def _own_signals():
    """Restore the handlers of signals, which torch's launcher replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _console_as_error_stream():
    """Replace the error stream, which processes inherit, by the console, for the progress."""
    screen = progress.console()
    if screen is None:
        yield
        return
    log = os.dup(2)
    os.dup2(screen.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(log, 2)
        os.close(log)
