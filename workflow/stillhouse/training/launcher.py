"""Stages that several processes compute: a job starts them, one of them writes.

The job itself has lock, log and timing, and writes the artifact, as with one process. It holds the
locks of the GPUs and waits for the processes of `stillhouse.training.worker`.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from torch.distributed import TCPStore

from stillhouse.artifacts import progress
from stillhouse.errors import StillhouseError
from stillhouse.training.worker import ERROR, FILES, HOST

# Folder below ``context.work`` of the job's description, and of what its processes write.
FOLDER = "processes"
JOB = "job.json"
# Seconds between two checks whether processes have ended.
CHECK_SECONDS = 0.05


def launched(stage, inputs, spec, context):
    """Return ``make(member, context)`` of a stage, computed by ``context.processes`` processes."""
    devices = [str(device) for device in context.torch_devices()]

    def make(member, context):
        folder = context.work / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # Where the processes meet, at a port that no other job can take; on all addresses.
        store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        resources = {**asdict(context), "processes": 1}
        described = {"stage": asdict(stage), "inputs": inputs, "spec": spec, "member": member}
        described |= {"resources": resources, "devices": devices, "port": store.port}
        (folder / JOB).write_text(json.dumps(described, default=str))
        failed = _run(folder, len(devices))
        if failed:
            raise _fault(folder, failed, stage.lowered)
        files = json.loads((folder / FILES).read_text())
        return {name: Path(path) for name, path in files}

    return make


def _run(folder, count):
    """Run the processes until they end, or one fails; return {number: status} of the failed.

    They end with this one, however it ends: their standard input, a pipe, is closed then.
    """
    command = [sys.executable, "-m", "stillhouse.training.worker", str(folder / JOB)]
    streams = {"stdin": subprocess.PIPE, "stderr": progress.console()}
    processes = [subprocess.Popen([*command, str(rank)], **streams) for rank in range(count)]
    try:
        while not any(statuses := _statuses(processes)) and None in statuses:
            time.sleep(CHECK_SECONDS)
        # Asked again: a process that failed first may have been asked before it did.
        return {rank: status for rank, status in enumerate(_statuses(processes)) if status}
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()


def _statuses(processes):
    """Return the exit status of each process; None of those that run."""
    return [process.poll() for process in processes]


def _fault(folder, failed, lowered):
    """Return the exception of the process that failed first, without its consequences in others."""
    reports = [json.loads(path.read_text()) for path in folder.glob(ERROR.format("*"))]
    reports.sort(key=lambda report: (not report["line"], report["time"]))
    if reports and reports[0]["line"]:
        return StillhouseError(reports[0]["line"])
    killed = [rank for rank, status in failed.items() if status < 0]
    if killed or not reports:
        rank = killed[0] if killed else min(failed)
        remedy = f"if memory is full, lower {lowered}, or compute.processes"
        if not killed:
            remedy = "see the log; if the disk is full, make room"
        return StillhouseError(f"process {rank} ended with status {failed[rank]}; {remedy}")
    return RuntimeError(f"a process of the job failed:\n{reports[0]['trace']}")
