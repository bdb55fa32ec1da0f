"""Writing and reading of all artifacts under ``results/``.

An artifact is a folder with its data files, ``spec.json`` (settings and upstream, size and SHA-256
of each data file, and the seal, a checksum over itself) and ``timing.json`` (date, host, duration;
not part of its identity). Settings and upstream of an artifact with members are stored once, in its
own ``lineage.json``, and the ``spec.json`` of a member has address, keys and files. Data files are
written under a temporary name, flushed, and renamed after all others, so that a file under its
final name is complete. Readers check each file first.
"""

import functools
import hashlib
import json
import os
from pathlib import Path

from stillhouse.artifacts import finite, foreign_files, formats
from stillhouse.artifacts.addresses import LINEAGE, canonical
from stillhouse.errors import (
    Damaged,
    FileError,
    Misplaced,
    Missing,
    StillhouseError,
    WrongType,
    one_line,
)

SPEC = "spec.json"
TIMING = "timing.json"
# Parts of a member's spec that its artifact's lineage does not have.
OWN = ("address", "digest", "keys")
# Types of the entries of a ``timing.json`` that reports read.
TIMED = {"seconds": int | float, "device": str, "finished": str, "host": str}


def write(directory, spec, files, timing=None, artifact=None):
    """Write an artifact, completely or not at all.

    Parameters
    ----------
    directory : Path
    spec : dict
        `Artifact.spec()` of the artifact.
    files : dict of str to content
        By suffix of the name: ``.parquet`` takes a pyarrow Table or `formats.RowGroups`,
        ``.safetensors`` a dict of tensors, ``.json`` plain values, ``.bits`` bytes. Names may
        include a subfolder (``vae/config.json``). A `Path` is a finished file, which is moved. The
        last file is renamed last.
    timing : callable, optional
        Returns the plain values of ``timing.json``; called when all other files are written.
    artifact : dict, optional
        For a member: the spec of its artifact, which gets a ``lineage.json``.
    """
    directory = Path(directory)
    if artifact is not None:
        write_lineage(artifact)
        spec = {**{name: spec[name] for name in OWN}, "lineage": f"../{LINEAGE}"}
    directory.mkdir(parents=True, exist_ok=True)
    formats.remove_temporaries(directory)
    temporaries = {}
    try:
        for name, content in files.items():
            temporaries[name] = formats.write_temporary(directory, name, content)
        sizes = {
            name: {"bytes": temporary.stat().st_size, "sha256": formats.checksum(temporary)}
            for name, temporary in temporaries.items()
        }
        sealed = {**spec, "files": sizes}
        formats.save_json(directory / SPEC, {**sealed, "seal": _seal(sealed)})
        if timing is not None:
            formats.save_json(directory / TIMING, timing())
        for name, temporary in temporaries.items():
            (directory / name).parent.mkdir(exist_ok=True)
            os.replace(temporary, directory / name)
        for folder in {(directory / name).parent for name in temporaries}:
            formats.flush(folder)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def write_lineage(spec):
    """Write what all members of an artifact have in common, unless it is stored, undamaged.

    Jobs of the same artifact may do so at once: all write the same.

    Parameters
    ----------
    spec : dict
        `Artifact.spec()` of the artifact. The number of its members is left out.
    """
    lineage = {name: value for name, value in spec.items() if name != "members"}
    try:
        stored = read_lineage(spec["address"])
    except FileError:
        stored = None
    if canonical(stored) != canonical(lineage):
        path = Path(spec["address"]) / LINEAGE
        formats.remove_temporaries(path.parent)
        formats.save_json(path, {**lineage, "seal": _seal(lineage)})


def is_complete(directory, spec, names):
    """Return whether the files of an artifact exist, undamaged and made by `spec`."""
    try:
        specs = check(Path(directory) / name for name in names)
    except StillhouseError:
        return False
    return all(canonical({k: one[k] for k in spec}) == canonical(spec) for one in specs)


def check(paths):
    """Check files against their ``spec.json`` and return the specs, one per file.

    Raises
    ------
    Missing, Damaged, Misplaced
        With the file and the remedy.
    """
    return [_check(Path(path)) for path in paths]


def _seal(spec):
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


_checked = {}


def _check(path):
    folder = _folder(path)
    if not path.is_file():
        # Snakemake may have one of the artifact's files as output and would not recreate others.
        remedy = _delete(folder) if (folder / SPEC).exists() else "rerun the workflow to create it"
        raise Missing(path, f"missing; {remedy}")
    spec, name = read_spec(folder), path.relative_to(folder).as_posix()
    state = path.stat()
    current = (state.st_mtime_ns, state.st_size, spec["files"].get(name, {}).get("sha256"))
    if _checked.get(path.absolute()) == current:
        return spec
    listed = spec["files"].get(name)
    if listed is None:
        raise Damaged(path, f"not listed in the {SPEC} beside it; {_delete(folder)}")
    if state.st_size != listed["bytes"]:
        raise Damaged(
            path,
            f"has {state.st_size} bytes, {SPEC} lists {listed['bytes']}; {_delete(folder)}",
        )
    if formats.checksum(path) != listed["sha256"]:
        raise Damaged(path, f"altered (SHA-256 differs from {SPEC}); {_delete(folder)}")
    _checked[path.absolute()] = current
    return spec


def _delete(folder):
    return f"delete the folder {folder} and rerun"


def _folder(path):
    """Return the artifact's folder of a file: the file's folder, or the one above a subfolder."""
    above = path.parent.parent
    return above if not (path.parent / SPEC).exists() and (above / SPEC).exists() else path.parent


def read_spec(directory):
    """Read and check the ``spec.json`` of the folder of an artifact or of a member.

    Callers must not modify it: members share their lineage.
    """
    spec = _read_sealed(Path(directory) / SPEC, _delete(directory))
    if spec.pop("lineage", None) is None:
        return spec
    return {**read_lineage(Path(directory).parent), **spec}


def read_lineage(directory):
    """Read and check the ``lineage.json`` of an artifact with members; return the spec."""
    path = Path(directory).absolute() / LINEAGE
    state = path.stat() if path.is_file() else None
    key = (path, state.st_mtime_ns, state.st_size) if state else ()
    return _lineage(Path(directory) / LINEAGE, key)


@functools.lru_cache(maxsize=4)
def _lineage(path, key):
    """Read a lineage; `key` is its absolute path with time and size."""
    return _read_sealed(path, "run make verify, which writes it again")


def _read_sealed(path, remedy):
    if not path.is_file():
        raise Missing(path, f"missing; {remedy}")
    try:
        spec = json.loads(path.read_bytes())
        intact = spec.pop("seal") == _seal(spec)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise Damaged(path, f"altered; {remedy}")
    address = Path(spec["address"])
    if path.parent.absolute().parts[-len(address.parts) :] != address.parts:
        raise Misplaced(path.parent, f"holds the artifact of {address}; move it back or delete it")
    return spec


def read_table(path, columns=None, schema=None):
    """Read a Parquet artifact.

    Parameters
    ----------
    path : str or Path
    columns : list of str, optional
        Columns to read; by default all.
    schema : pyarrow.Schema, optional
        Required column names and types.
    """
    import pyarrow.parquet as pq

    _check(Path(path))
    check_schema(path, schema)
    table = pq.read_table(path, columns=columns, partitioning=None)
    _check_finite(path, finite.check_table, table)
    return table


def _check_finite(path, check, content):
    """Raise `Damaged` for numbers that are not finite, as versions before this check stored."""
    try:
        return check(content)
    except finite.NotFinite as error:
        raise Damaged(path, f"{error}; {_delete(_folder(Path(path)))}") from None


def open_row_groups(path, schema=None):
    """Return a checked `pyarrow.parquet.ParquetFile`, to be read one row group at a time."""
    import pyarrow.parquet as pq

    _check(Path(path))
    check_schema(path, schema)
    return pq.ParquetFile(path)


def open_copy(path, schema=None):
    """Return a `pyarrow.parquet.ParquetFile` of an artifact or of a copy elsewhere.

    The checksum is compared if ``spec.json`` is in the same folder.

    Raises
    ------
    FileError
        If the file is missing, altered, or has other columns.
    """
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise Missing(path, "missing, or not a file; check the path")
    try:
        listed = json.loads((path.parent / SPEC).read_bytes())["files"][path.name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        listed = None
    state = path.stat()
    checked = _checked.get(path.absolute()) == (state.st_mtime_ns, state.st_size, listed)
    if listed is not None and not checked and formats.checksum(path) != listed:
        raise Damaged(path, f"differs from the file listed in {SPEC}; copy both again")
    check_schema(path, schema)
    return pq.ParquetFile(path)


def check_schema(path, schema):
    """Raise `WrongType` if a file is not Parquet or lacks a column of a schema or its type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pq.read_schema(path)
    except pa.ArrowInvalid:
        raise WrongType(path, "not a Parquet file") from None
    for column in schema or ():
        index = stored.get_field_index(column.name)
        if index < 0 or not stored.field(index).type.equals(column.type):
            actual = "missing" if index < 0 else str(stored.field(index).type)
            raise WrongType(path, f"column {column.name!r}: is {actual}; must be {column.type}")


def read_tensors(path, device="cpu"):
    """Read a safetensors artifact as a dict of tensors."""
    _check(Path(path))
    tensors = load_tensors(path, device)
    _check_finite(path, finite.check_tensors, tensors)
    return tensors


def load_tensors(path, device="cpu"):
    """Read any safetensors file, of an artifact or of the user, as a dict of tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        what = foreign_files.placeholder_file(path) or one_line(error)
        raise WrongType(path, f"not a readable safetensors file ({what})") from None


def tensor_shape(path, name):
    """Return the shape of one tensor of a safetensors artifact, without reading any."""
    from safetensors import safe_open

    _check(Path(path))
    with safe_open(path, "numpy") as stored:
        return tuple(stored.get_slice(name).get_shape())


def read_json(path):
    """Read a JSON artifact."""
    _check(Path(path))
    try:
        return _check_finite(path, finite.read_json, Path(path).read_bytes())
    except ValueError:
        raise WrongType(path, "not JSON") from None


def read_timing(directory):
    """Return the ``timing.json`` of an artifact's folder.

    None if it is missing or unreadable, or if it is no object whose ``seconds``, if any, are a
    finite number and whose other entries, if read, are text.
    """
    try:
        timing = finite.read_json((Path(directory) / TIMING).read_bytes())
    except (OSError, ValueError, RecursionError, finite.NotFinite):
        return None
    if not isinstance(timing, dict):
        return None
    fits = (isinstance(timing[name], kind) for name, kind in TIMED.items() if name in timing)
    return timing if all(fits) else None
