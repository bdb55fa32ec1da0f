"""Progress: a bar on a terminal, plain lines in the job's log and on other consoles."""

import os
import sys
import time

from tqdm import tqdm

# Seconds between two lines in the job's log, and on the console of all jobs.
LINE_SECONDS = 10.0
CONSOLE_SECONDS = 60.0


def _no_detail():
    return ""


def track(items, total, unit, detail=_no_detail):
    """Yield `items` and report the progress.

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
    screen = console()
    on_terminal = screen is not None and screen.isatty()
    bar = tqdm(total=total, desc=unit, file=screen, leave=False) if on_terminal else None
    started = last = shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        on_screen = bar is None and screen is not None and now - shown >= CONSOLE_SECONDS
        in_log = now - last >= LINE_SECONDS or done == total
        if bar is not None:
            bar.set_postfix_str(detail(), refresh=False)
            bar.update()
        if on_screen or in_log:
            line = f"{unit}: {done}/{total} in {now - started:.1f} s {detail()}".rstrip()
        if on_screen:
            print(f"{_console.label} {line}".lstrip(), file=screen, flush=True)
            shown = now
        if in_log:
            print(line, flush=True)
            last = now
    if bar is not None:
        bar.close()


class _Console:
    """The stream of a job's progress, and the name of the job in its lines."""

    stream, label = None, ""


_console = _Console()


def keep_console(descriptor, label=""):
    """Keep standard error for progress, before a log replaces it.

    Parameters
    ----------
    descriptor : int
    label : str
        Name of the job, for lines of several jobs on one console.
    """
    _console.stream, _console.label = os.fdopen(descriptor, "w", buffering=1), label


def console():
    """Return the stream for the progress, or None."""
    if _console.stream is not None:
        return _console.stream
    return sys.stderr if sys.stderr.isatty() else None
