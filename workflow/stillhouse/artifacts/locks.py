"""Locks: one process at a time computes an artifact, and one job at a time takes a GPU."""

import contextlib

from filelock import FileLock, Timeout


@contextlib.contextmanager
def lock(path):
    """Hold a lock file; whoever else holds it is waited for.

    So a job waits for one that outlived its killed workflow. The file is removed at the end, while
    it is held: a process that waits for a removed file notices, and takes a new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        print(f"{path}: held by another job; waiting for its end", flush=True)
        held.acquire()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        held.release()


def try_lock(path):
    """Take a lock until the process ends; return None if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(blocking=False)
    except Timeout:
        return None
    return held
