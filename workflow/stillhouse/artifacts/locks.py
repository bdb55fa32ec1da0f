"""Locks: at most one process computes an artifact, and at most one job uses a GPU."""

import contextlib

from filelock import FileLock, Timeout


@contextlib.contextmanager
def lock(path):
    """Hold a lock file, after waiting for other holders.

    A job thus waits for one that outlived its killed workflow. The file is removed while it is
    still held. A process that waits for a removed file detects this and creates a new one.
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
