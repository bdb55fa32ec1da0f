"""Manifests: small files that represent the members of one job, by which Snakemake orders jobs.

Members of an artifact (one per class, batch or seed) are not declared as outputs. Another division
into jobs therefore recomputes nothing, and a failed job loses no complete member. A manifest is
written when all members of a job are complete, and lists their files with their checksums.
"""

import json
import os
from pathlib import Path

from stillhouse.artifacts import formats, store
from stillhouse.artifacts.addresses import MANIFESTS, RESULTS, member_folder


def write(path, stage, spec, members):
    """Write the manifest of complete members.

    Parameters
    ----------
    path : str or Path
    stage : Stage
    spec : dict
        Of the artifact.
    members : sequence
    """
    folders = [member_folder(spec["address"], stage.member, member) for member in members]
    formats.save_json(path, {"stage": stage.name, "address": spec["address"], **listing(folders)})


def listing(folders):
    """Return {"members": {folder: files with size and SHA-256}} of complete members."""
    return {"members": {str(f): store.read_spec(f)["files"] for f in folders}}


def record_shown(path, contents):
    """Record the digest of what a report shows, a file whose path has none."""
    formats.save_json(_record(path), {"contents": contents})


def shown(path):
    """Return the recorded digest of what a report shows; None if it is missing."""
    try:
        return json.loads(_record(path).read_bytes())["contents"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _record(path):
    """Return the path of the record of a report, results/manifests/reports/<path>.json."""
    return MANIFESTS / "reports" / f"{Path(path).relative_to(RESULTS)}.json"


def read(path):
    """Return a manifest; empty if it is missing or damaged."""
    try:
        manifest = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    listed = manifest.get("members") if isinstance(manifest, dict) else None
    return manifest if isinstance(listed, dict) else {}


def listing_files(folder):
    """Return the paths of the manifests of blocks and of datasets that list a member.

    Parameters
    ----------
    folder : str or Path
        Of the member, or of its artifact: then those that list any of its members.
    """
    of_blocks = MANIFESTS.glob("*/*/*.json")
    paths = [*of_blocks, *(RESULTS / "dataset").glob("*/dataset.json")]
    return [path for path in paths if _lists(read(path).get("members", {}), str(folder))]


def _lists(members, folder):
    return folder in members or any(os.path.dirname(member) == folder for member in members)


def forget(path):
    """Remove the manifests that list a member whose file, or lineage, is missing or damaged.

    The next run then recomputes the member, or writes the lineage again.

    Parameters
    ----------
    path : Path
        The file, as in the error of its reader.

    Returns
    -------
    str
        Addition to the error message; empty if no manifest lists the member.
    """
    stale = listing_files(os.path.relpath(path.parent))
    for manifest in stale:
        manifest.unlink(missing_ok=True)
    return f" (removed {', '.join(map(str, stale))}, which listed it)" if stale else ""
