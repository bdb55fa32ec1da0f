"""The lineage of an artifact in words: ``python -m stillhouse.artifacts.lineage results/…``."""

import sys
from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError

WORDS = {
    "index": "the index of source",
    "images": "the images of source",
    "teacher": "a teacher",
    "denoiser": "a denoiser",
    "latents": "latents of images",
    "inversion": "statistics of inverted latents",
    "samples": "a group of noisy latents",
    "prototypes": "cluster centres of latents",
    "decode": "images made by a denoiser",
    "patch_scores": "scores of patches",
    "class_scores": "class scores of patches by a denoiser",
    "features": "features of images or patches",
    "clusters": "ranked clusters of patches",
    "statistics": "statistics of a teacher's layers",
    "synthesis": "images synthesised for teachers",
    "distilled": "a distilled set",
    "labels": "a table of soft labels",
    "students": "a student",
}


def explain(spec, role="", depth=0, seen=None):
    """Return lines that say what an artifact is and what it is made from.

    Parameters
    ----------
    spec : dict
        A ``spec.json``.
    role : str
        What it is for the artifact above.
    depth : int
        Indentation.
    seen : set of str
        Addresses told already.
    """
    seen = set() if seen is None else seen
    indent = "  " * depth
    head = f"{indent}{role + ': ' if role else ''}{WORDS[spec['stage']]}, {spec['address']}"
    if spec["address"] in seen:
        return [f"{head} (as above)"]
    seen.add(spec["address"])
    lines = [head + _made(spec)]
    settings = {**spec["keys"], **spec["settings"], "version": spec["version"]}
    lines += [f"{indent}    {line}" for line in _settings(settings)]
    for name, part in spec["upstream"].items():
        lines += explain(part, name, depth + 1, seen)
    return lines


def _made(spec):
    """Say what making an artifact, or the members that there are of a family, took and when."""
    address = Path(spec["address"])
    timing = store.read_timing(address)
    if timing:
        return _told([timing], "")
    folders = [*address.glob("*/"), *address.parent.glob(f"{address.name}-*/")]
    timings = [*filter(None, map(store.read_timing, folders))]
    return _told(timings, f"{len(timings)} there, ") if timings else ""


def _told(timings, count):
    last = max(timings, key=lambda one: one["finished"])
    seconds = sum(one["seconds"] for one in timings)
    return f" ({count}made in {seconds:.1f} s on {last['device']}, {last['finished']})"


def _settings(settings, prefix=""):
    for name, value in sorted(settings.items()):
        if isinstance(value, dict):
            yield from _settings(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) > 12:
            yield f"{prefix}{name}: {len(value)} values, {value[0]} to {value[-1]}"
        elif isinstance(value, list):
            yield f"{prefix}{name}: {', '.join(map(str, value))}"
        else:
            yield f"{prefix}{name}: {value}"


def find(target):
    """Return the spec of the artifact that a path names: its folder, or a file in it."""
    path = Path(target)
    folder = path if path.is_dir() else path.parent
    if not (folder / store.SPEC).exists():
        below = sorted(folder.glob(f"**/{store.SPEC}"))
        hint = f"; there is one in {below[0].parent}" if below else ""
        raise StillhouseError(
            f"{target}: no {store.SPEC} there; give the path of an artifact's folder{hint}"
        )
    return store.read_spec(folder)


def main(arguments):
    """Print the lineage of the artifact named on the command line; return the exit status."""
    if len(arguments) != 1 or not arguments[0]:
        print("usage: make explain TARGET=results/<stage>/<artifact>", file=sys.stderr)
        return 2
    try:
        print("\n".join(explain(find(arguments[0]))))
    except StillhouseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
