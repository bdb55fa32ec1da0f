"""All results of a folder in one file, with a manifest in the form of RO-Crate 1.1."""

import io
import json
import mimetypes
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from stillhouse.artifacts import formats
from stillhouse.artifacts.addresses import RESULTS
from stillhouse.errors import StillhouseError
from stillhouse.export import folders
from stillhouse.reporting import papers

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "https://w3id.org/ro/crate/1.1"
# No result is made from them.
LEFT_OUT = ("benchmarks", "logs")
TYPES = {
    ".bits": "application/octet-stream",
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
}


def archive(target):
    """Write all results of the working directory to a tar file; return a line of its content.

    Hidden files (checkpoints, temporary files), logs and benchmarks are left out. Files are in the
    order of their paths, without owner, with times in whole seconds: unchanged results give the
    same bytes.

    Parameters
    ----------
    target : str or Path
        Ends in ``.tar``; an existing archive is replaced when the new one is complete.

    Raises
    ------
    StillhouseError
        If there are no results, or the archive would be one of them.
    """
    target, paths = Path(target), result_files()
    if target.suffix != ".tar":
        raise StillhouseError(f"{target}: must end in .tar; give results.tar, say")
    if RESULTS.absolute() in target.absolute().parents:
        raise StillhouseError(f"{target}: must be outside of {RESULTS}/; give another path")
    if not paths:
        raise StillhouseError(f"{RESULTS}: no results; run the workflow first")
    temporary = formats.temporary_path(target.parent, target.name)
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            manifest = metadata(paths)
            _add(tar, METADATA, io.BytesIO(manifest), len(manifest), max(map(_seconds, paths)))
            for path in paths:
                with path.open("rb") as stream:
                    _add(tar, path.as_posix(), stream, path.stat().st_size, _seconds(path))
        temporary.replace(target)
    except OSError as error:
        raise StillhouseError(
            f"{target}: not written ({error.strerror}); make room or change permissions"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return f"{target}: {len(paths)} files, {target.stat().st_size} bytes"


def result_files():
    """Return the files of all results, sorted by path."""
    return [
        path
        for path in folders.files(RESULTS)
        if path.is_file()
        and path.parts[1] not in LEFT_OUT
        and not any(part.startswith(".") for part in path.parts)
    ]


def metadata(paths):
    """Return the manifest of an archive, JSON-LD of RO-Crate 1.1 as bytes.

    Parameters
    ----------
    paths : list of Path
        Each is listed with size, SHA-256 and type.
    """
    experiments = [
        path.stem for path in paths if path.parts[1] == "tables" and path.suffix == ".csv"
    ]
    last, software = max(map(_seconds, paths)), papers.of_software()
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Stillhouse results: {', '.join(experiments) or 'no finished experiment'}",
        "description": "Artifacts, tables and pages of dataset distillation experiments.",
        "datePublished": datetime.fromtimestamp(last, UTC).date().isoformat(),
        "license": "unknown",
        "hasPart": [{"@id": path.as_posix()} for path in paths],
        "creator": {"@id": "#stillhouse"},
    }
    described = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": PROFILE},
    }
    program = {
        "@id": "#stillhouse",
        "@type": "SoftwareApplication",
        "name": software["title"],
        "softwareVersion": software["version"],
    }
    graph = [described, root, program, *map(_file, paths)]
    crate = {"@context": CONTEXT, "@graph": graph}
    return (json.dumps(crate, indent=1, ensure_ascii=False) + "\n").encode()


def _file(path):
    listed = folders.entry(path)
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return {
        "@id": path.as_posix(),
        "@type": "File",
        "name": path.name,
        "contentSize": str(listed["bytes"]),
        "sha256": listed["sha256"],
        **({"encodingFormat": kind} if kind else {}),
    }


def _seconds(path):
    return int(path.stat().st_mtime)


def _add(tar, name, stream, size, seconds):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, seconds, 0o644
    tar.addfile(entry, stream)
