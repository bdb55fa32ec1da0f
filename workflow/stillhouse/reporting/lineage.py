"""Text form of an artifact's lineage: ``python -m stillhouse.reporting.lineage results/…``."""

import csv
import glob
import sys
from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import LINEAGE, TABLES
from stillhouse.config.experiments import OVERVIEW
from stillhouse.errors import StillhouseError, UsageError, command
from stillhouse.methods import registry

# Longer lists, and dictionaries by class id, are abridged.
MAX_VALUES = 12
MAX_ENTRIES = 30


def explain(*specs):
    """Return lines that describe artifacts, their settings and everything upstream, each once.

    Parameters
    ----------
    specs : dict
        Of each its ``spec.json``.
    """
    explained = set()
    return [line for spec in specs for line in _explain(spec, "", 0, explained)]


def _explain(spec, role, depth, explained):
    """Return the lines of one artifact at a depth; `explained` are addresses with lines already."""
    indent = "  " * depth
    description = registry.stages()[spec["stage"]].description
    head = f"{indent}{role + ': ' if role else ''}{description}, {spec['address']}"
    if spec["address"] in explained:
        return [f"{head} (as above)"]
    explained.add(spec["address"])
    lines = [head + _compute_time(spec)]
    settings = {**spec["keys"], **spec["settings"], "version": spec["version"]}
    lines += [f"{indent}    {line}" for line in _setting_lines(settings)]
    for name, part in spec["upstream"].items():
        for artifact in part if isinstance(part, list) else [part]:
            lines += _explain(artifact, name, depth + 1, explained)
    return lines


def _compute_time(spec):
    """Summarise compute time and date of an artifact, or of its existing members."""
    address = Path(spec["address"])
    timing = store.read_timing(address)
    timings = [timing] if timing else [*filter(None, map(store.read_timing, address.glob("*/")))]
    timings = [one for one in timings if {"device", "finished", "seconds"} <= one.keys()]
    if not timings:
        return ""
    members = "" if timing else f"{len(timings)} members, "
    last = max(timings, key=lambda timing: timing["finished"])
    seconds = sum(timing["seconds"] for timing in timings)
    return f" ({members}computed in {seconds:.1f} s on {last['device']}, {last['finished']})"


def _setting_lines(settings, prefix=""):
    for name, value in sorted(settings.items()):
        if isinstance(value, dict) and len(value) > MAX_ENTRIES:
            yield f"{prefix}{name}: {len(value)} entries"
        elif isinstance(value, dict):
            yield from _setting_lines(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) > MAX_VALUES:
            yield f"{prefix}{name}: {len(value)} values, {value[0]} to {value[-1]}"
        elif isinstance(value, list):
            yield f"{prefix}{name}: {', '.join(map(str, value))}"
        else:
            yield f"{prefix}{name}: {value}"


def explain_report(target):
    """Return lines on every cell of an experiment, from the path of its table, page or a chart.

    Raises
    ------
    StillhouseError
        If the experiment has no table, or the page is the overview.
    """
    path = Path(target)
    if path.stem == OVERVIEW:
        raise StillhouseError(f"{target}: has all experiments; give the page or table of one")
    experiment = path.parent.name if path.parts[1] == "figures" else path.stem
    table = TABLES / f"{experiment}.csv"
    if not table.exists():
        raise StillhouseError(f"{target}: {table} missing; rerun the workflow to create it")
    lines, explained = [f"{target}: experiment {experiment}, {table}"], set()
    with open(table, newline="") as stream:
        rows = csv.DictReader(stream)
        if "artifact" not in (rows.fieldnames or ()):
            raise StillhouseError(
                f"{table}: missing column artifact; rerun the workflow to update the table"
            )
        for row in rows:
            names = ("method", "ipc", "distill_seed", "student", "protocol", "seed", "accuracy")
            lines.append(", ".join(f"{name} {row[name]}" for name in names))
            lines += _explain(store.read_spec(row["artifact"]), "", 1, explained)
    return lines


def is_report(target):
    """Return whether a path is that of a table, a page or a chart of an experiment."""
    parts = Path(target).parts
    return parts[:1] == ("results",) and (
        (parts[1:2] in (("tables",), ("report",)) and len(parts) == 3)
        or (parts[1:2] == ("figures",) and len(parts) == 4)
    )


def find(target):
    """Return the spec of the artifact or member at a path: its folder, or a file in it.

    Raises
    ------
    StillhouseError
        If the folder has no spec; the message has the path of an artifact below it.
    """
    path = Path(target)
    folder = path if path.is_dir() else path.parent
    if (folder / LINEAGE).exists():
        return store.read_lineage(folder)
    if not (folder / store.SPEC).exists():
        below = sorted(
            path
            for path in folder.glob(f"**/{store.SPEC}")
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        hint = f", such as {below[0].parent}" if below else ""
        raise StillhouseError(
            f"{target}: {store.SPEC} missing; give the path of an artifact's folder{hint}"
        )
    return store.read_spec(folder)


def matching(target):
    """Return the paths of a pattern with ``*``, in order of name; others as they are.

    Raises
    ------
    StillhouseError
        If there is none.
    """
    if "*" not in target:
        return [target]
    paths = sorted(glob.glob(target))
    if not paths:
        raise StillhouseError(f"{target}: no such artifact; list the folder above it")
    return paths


@command
def main(arguments):
    """Print the lineage of the artifacts named on the command line."""
    if len(arguments) != 1 or not arguments[0]:
        raise UsageError(
            "usage: make explain TARGET=results/<stage>/<artifact> (or a table, page or chart)"
        )
    for target in matching(arguments[0]):
        lines = explain_report(target) if is_report(target) else explain(find(target))
        print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
