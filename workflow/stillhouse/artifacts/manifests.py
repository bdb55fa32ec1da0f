"""Manifests: small files that stand for the members of one job, for Snakemake to order jobs by.

Members of an artifact (one per class, batch or seed) are no declared outputs: another cut into jobs
computes nothing anew, and a failed job loses none of them. A manifest is written when all members
of a job are complete, and lists their files with their checksums.
"""

import json
import os
from pathlib import Path

from stillhouse.artifacts import formats, store
from stillhouse.artifacts.addresses import MANIFESTS, RESULTS, member_folder


def write(path, stage, spec, members):
    """Write the manifest of members that are complete.

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


def read(path):
    """Return a manifest; empty where it is missing or damaged."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return {}


def listing_files(folder):
    """Return the paths of all manifests, and manifests of datasets, that list a member's folder."""
    found = MANIFESTS.glob("*/*/*.json"), (RESULTS / "dataset").glob("*/dataset.json")
    paths = [path for several in found for path in several]
    return [path for path in paths if str(folder) in read(path).get("members", {})]


def forget(path):
    """Remove the manifests that list a member whose file is missing or damaged.

    So that the next run computes it again.

    Parameters
    ----------
    path : Path
        The file, as its reader names it.

    Returns
    -------
    str
        To be added to the message; empty where no manifest lists it.
    """
    stale = listing_files(os.path.relpath(path.parent))
    for manifest in stale:
        manifest.unlink(missing_ok=True)
    return f" (removed {', '.join(map(str, stale))}, which listed it)" if stale else ""
