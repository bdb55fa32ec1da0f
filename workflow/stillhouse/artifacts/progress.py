"""Progress: a bar on a terminal, plain lines in the job's log."""

import os
import sys
import time

from tqdm import tqdm

LINE_SECONDS = 10.0


def _no_detail():
    return ""


def track(items, total, unit, detail=_no_detail):
    """Yield `items` and show the progress.

    Parameters
    ----------
    items : iterable
    total : int
        Number of items.
    unit : str
        Name of the items, shown before the count.
    detail : callable
        Returns a short text (a loss, an accuracy) for the line.
    """
    bar = tqdm(total=total, desc=unit, file=console(), leave=False) if console() else None
    started = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if bar is not None:
            bar.set_postfix_str(detail(), refresh=False)
            bar.update()
        if now - last >= LINE_SECONDS or done == total:
            print(
                f"{unit}: {done}/{total} in {now - started:.1f} s {detail()}".rstrip(), flush=True
            )
            last = now
    if bar is not None:
        bar.close()


_console = []


def keep_console(descriptor):
    """Keep the terminal of standard error for bars, before a log replaces it."""
    stream = os.fdopen(descriptor, "w", buffering=1)
    if stream.isatty():
        _console[:] = [stream]
    else:
        stream.close()


def console():
    """Return the terminal to draw bars on, or None."""
    if _console:
        return _console[0]
    return sys.stderr if sys.stderr.isatty() else None
