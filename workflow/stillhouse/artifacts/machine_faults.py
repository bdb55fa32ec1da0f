"""Faults of the machine: exceptions of Python and of libraries in one line, with a remedy.

A full disk, a limit, a file system that is read-only or not available, full memory. The Snakefile
imports this module: it imports no heavy packages.
"""

import errno
import re
import shutil
from pathlib import Path

from stillhouse.errors import StillhouseError, one_line

FULL = (errno.ENOSPC, errno.EDQUOT)
# Problem and remedy by error number.
SYSTEM = {
    errno.EFBIG: "larger than the limit of file sizes; raise it (ulimit -f), or use another disk",
    errno.EROFS: "read-only file system; mount it writable, or set --directory",
    errno.EIO: "the disk cannot be read or written; check it, or use another one",
    errno.ESTALE: "the file system was mounted again or is not available; rerun",
    errno.ENOTCONN: "the file system is not available; mount it again, and rerun",
    errno.EHOSTDOWN: "the file system is not available; mount it again, and rerun",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; rerun with fewer jobs at once (--cores)",
    errno.ENOTDIR: "a file is in the place of a folder; move it away",
    errno.EEXIST: "a file, or a link to a missing folder, is in the place of a folder; remove it",
    errno.ELOOP: "a link that leads to itself; remove it",
}
# Parts of the messages of torch, cuDNN and cuBLAS, whose exceptions have no common type.
GPU_FULL = ("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
GPU_UNFIT = ("no kernel image is available", "CUDA driver version is insufficient")
MEMORY_FULL = ("can't allocate memory", "std::bad_alloc")
NO_THREADS = "can't start new thread"


class DiskFull(StillhouseError):
    """A file for which a disk, or the quota of a user, has no room.

    Parameters
    ----------
    path : Path
        Of the file under its final name.
    n_bytes : int
        Size of its content [bytes], or of the part that was written; 0 if unknown.
    """

    def __init__(self, path, n_bytes=0):
        free = free_bytes(path)
        missing = f"at least {n_bytes - free:,} bytes are missing" if n_bytes > free else ""
        known = missing or f"{free:,} bytes are free"
        super().__init__(
            f"{path}: disk full, {known}; make room and rerun, which resumes: nothing incomplete "
            "was stored"
        )


def free_bytes(path):
    """Return the free bytes of the disk of a path, which need not exist."""
    existing = next(
        p for p in (Path(path).absolute(), *Path(path).absolute().parents) if p.exists()
    )
    return shutil.disk_usage(existing).free


def error_number(error):
    """Return the number of an error of the operating system; None for other exceptions.

    safetensors and Arrow report the system's error as text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = re.search(r"\(os error (\d+)\)|\[[Ee]rrno (\d+)\]", str(error))
    return int(text[1] or text[2]) if text else None


def of_file(error, path, n_bytes=0):
    """Return the `StillhouseError` for an exception while a file is written; None for others.

    Parameters
    ----------
    error : Exception
    path, n_bytes
        See `DiskFull`.
    """
    number = None if isinstance(error, StillhouseError) else error_number(error)
    if number in FULL:
        return DiskFull(path, n_bytes)
    return StillhouseError(f"{path}: {SYSTEM[number]}") if number in SYSTEM else None


def of_job(error, default, lowered):
    """Return the line for a fault of the machine that ended a job; None for other exceptions.

    Parameters
    ----------
    error : Exception
    default : Path
        Folder to name where the exception names no file.
    lowered : str
        Settings to lower when memory is full.
    """
    path, text = getattr(error, "filename", None) or default, str(error)
    fault = of_file(error, path)
    if fault is not None:
        return str(fault)
    if isinstance(error, PermissionError):
        return f"{path}: not writable or readable; change its permissions, or --directory"
    if any(part in text for part in GPU_FULL):
        return f"memory of the GPU is full; lower {lowered}, or run fewer jobs per GPU (gpu=N)"
    if any(part in text for part in GPU_UNFIT):
        return f"the GPU cannot be used ({one_line(error)}); set compute.device: cpu"
    if NO_THREADS in text:
        return "no more threads can be started; raise the limit (ulimit -u), or lower --cores"
    full = error_number(error) == errno.ENOMEM or any(part in text for part in MEMORY_FULL)
    if isinstance(error, MemoryError) or full:
        return f"memory is full; lower {lowered}, or --cores, which limits the jobs at once"
    return None
