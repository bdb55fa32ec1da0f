"""Progress: a bar on a terminal, plain lines in the job's log."""

import os
import sys
import time

from tqdm import tqdm

LINE_SECONDS = 10.0


def track(items, total, what, detail=lambda: ""):
    """Yield `items`, showing how far they are.

    Parameters
    ----------
    items : iterable
    total : int
        How many items there will be.
    what : str
        What is counted, shown before the count.
    detail : callable
        Returns a short text (a loss, an accuracy) for the line.
    """
    bar = tqdm(total=total, desc=what, file=console(), leave=False) if console() else None
    started = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if bar is not None:
            bar.set_postfix_str(detail(), refresh=False)
            bar.update()
        if now - last >= LINE_SECONDS or done == total:
            print(
                f"{what}: {done}/{total} in {now - started:.1f} s {detail()}".rstrip(), flush=True
            )
            last = now
    if bar is not None:
        bar.close()


_console = []


def keep_console(descriptor):
    """Remember the terminal that standard error had before a log took its place."""
    stream = os.fdopen(descriptor, "w", buffering=1)
    if stream.isatty():
        _console[:] = [stream]
    else:
        stream.close()


def console():
    """Return the terminal to draw bars on, or None where there is none."""
    if _console:
        return _console[0]
    return sys.stderr if sys.stderr.isatty() else None
