"""The one writer and the one reader of everything under ``results/``.

An artifact is a folder with its data files, ``spec.json`` (what made it, with the size and SHA-256
of each data file, and a seal over itself) and ``timing.json`` (when, where, how long; not part of
its identity). Data files are written under a temporary name, flushed and renamed, last of all:
what has its final name is whole. Whoever reads a file has it checked first.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.artifacts.addresses import canonical
from stillhouse.errors import StillhouseError

# Snakefiles are parsed with this module: what is heavy is imported where it is used.
if TYPE_CHECKING:
    import pyarrow as pa

SPEC = "spec.json"
TIMING = "timing.json"
# Dictionaries and statistics would make a label table of 200 row groups half as large again.
PARQUET = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": False,
}


class FileError(StillhouseError):
    """A file that cannot be used, by its path.

    Parameters
    ----------
    path : Path
    problem : str
    """

    def __init__(self, path, problem):
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)


class Missing(FileError):
    """A file of an artifact does not exist."""


class Damaged(FileError):
    """A file is truncated, altered, or not what its spec says."""


class Misplaced(FileError):
    """A complete artifact that belongs to another address."""


class WrongType(FileError):
    """A whole file of the wrong kind, or with other columns than expected."""


@dataclass(frozen=True)
class RowGroups:
    """A Parquet file that is written one row group at a time, never whole in memory."""

    schema: pa.Schema
    groups: Iterable[pa.Table]


def write(directory, spec, files, timing=None):
    """Write an artifact, whole or not at all.

    Parameters
    ----------
    directory : Path
    spec : dict
        `Artifact.spec()` of the artifact.
    files : dict of str to content
        By the name's ending: ``.parquet`` takes a pyarrow Table or `RowGroups`, ``.safetensors`` a
        dict of tensors, ``.json`` plain values. Names may have a subfolder (``vae/config.json``).
        The last file named is renamed last.
    timing : callable, optional
        Returns the plain values of ``timing.json``; called when all else is written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _remove_temporaries(directory)
    temporaries = {}
    try:
        for name, content in files.items():
            temporaries[name] = _temporary(directory, name)
            _WRITERS[Path(name).suffix](temporaries[name], content)
            _flush(temporaries[name])
        sizes = {
            name: {"bytes": temporary.stat().st_size, "sha256": checksum(temporary)}
            for name, temporary in temporaries.items()
        }
        sealed = {**spec, "files": sizes}
        _put_json(directory, SPEC, {**sealed, "seal": _seal(sealed)})
        if timing is not None:
            _put_json(directory, TIMING, timing())
        for name, temporary in temporaries.items():
            (directory / name).parent.mkdir(exist_ok=True)
            os.replace(temporary, directory / name)
        for folder in {(directory / name).parent for name in temporaries}:
            _flush(folder)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def is_complete(directory, spec, names):
    """Return whether the files of an artifact exist, undamaged and made by `spec`."""
    try:
        kept = check(Path(directory) / name for name in names)
    except StillhouseError:
        return False
    return all(canonical({k: one[k] for k in spec}) == canonical(spec) for one in kept)


def check(paths):
    """Check files against their ``spec.json`` and return the specs, one a file.

    Raises
    ------
    Missing, Damaged, Misplaced
        Naming the file and what to do.
    """
    return [_check(Path(path)) for path in paths]


def _seal(spec):
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


_checked = {}


def _check(path):
    folder = _folder(path)
    if not path.exists():
        # Of an artifact's files, Snakemake may know one alone.
        remedy = _delete(folder) if (folder / SPEC).exists() else "rerun the workflow to create it"
        raise Missing(path, f"missing; {remedy}")
    spec, name = read_spec(folder), path.relative_to(folder).as_posix()
    state = path.stat()
    current = (state.st_mtime_ns, state.st_size, spec["files"].get(name, {}).get("sha256"))
    if _checked.get(path.absolute()) == current:
        return spec
    listed = spec["files"].get(name)
    if listed is None:
        raise Damaged(path, f"not among the files that {SPEC} beside it lists; {_delete(folder)}")
    if state.st_size != listed["bytes"]:
        raise Damaged(
            path,
            f"has {state.st_size} bytes, {SPEC} lists {listed['bytes']}; {_delete(folder)}",
        )
    if checksum(path) != listed["sha256"]:
        raise Damaged(path, f"content was altered (SHA-256 is not {SPEC}'s); {_delete(folder)}")
    _checked[path.absolute()] = current
    return spec


def _delete(folder):
    return f"delete the folder {folder} and rerun"


def _folder(path):
    """Return the artifact's folder that a file lies in: its own, or that of its subfolder."""
    above = path.parent.parent
    return above if not (path.parent / SPEC).exists() and (above / SPEC).exists() else path.parent


def read_spec(directory):
    """Read and check the ``spec.json`` of an artifact's folder."""
    path = Path(directory) / SPEC
    if not path.exists():
        raise Missing(path, f"missing; {_delete(directory)}")
    try:
        spec = json.loads(path.read_bytes())
        sound = spec.pop("seal") == _seal(spec)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise Damaged(path, f"was altered; {_delete(directory)}")
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
        Only these.
    schema : pyarrow.Schema, optional
        Column names and types that must be there.
    """
    import pyarrow.parquet as pq

    _check(Path(path))
    _check_schema(path, schema)
    return pq.read_table(path, columns=columns, partitioning=None)


def open_row_groups(path, schema=None):
    """Return a checked `pyarrow.parquet.ParquetFile`, to be read one row group at a time."""
    import pyarrow.parquet as pq

    _check(Path(path))
    _check_schema(path, schema)
    return pq.ParquetFile(path)


def _check_schema(path, schema):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path)
    except pa.ArrowInvalid:
        raise WrongType(path, "not a Parquet file") from None
    for column in schema or ():
        index = found.get_field_index(column.name)
        if index < 0 or not found.field(index).type.equals(column.type):
            what = "missing" if index < 0 else str(found.field(index).type)
            raise WrongType(path, f"column {column.name!r} must be {column.type}, is {what}")


def read_tensors(path, device="cpu"):
    """Read a safetensors artifact as a dict of tensors."""
    _check(Path(path))
    return load_tensors(path, device)


def load_tensors(path, device="cpu"):
    """Read any safetensors file, kept by us or not, as a dict of tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise WrongType(path, f"not a readable safetensors file ({error})") from None


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
        return json.loads(Path(path).read_bytes())
    except ValueError:
        raise WrongType(path, "not JSON") from None


def read_timing(directory):
    """Return the ``timing.json`` of an artifact's folder, None where there is no readable one."""
    try:
        return json.loads((Path(directory) / TIMING).read_bytes())
    except (OSError, ValueError):
        return None


def checksum(path):
    """Return the SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_tensors(path, tensors, metadata=None):
    """Write a safetensors file under its final name at once, with JSON-able metadata."""
    _save(path, lambda temporary: _write_tensors(temporary, tensors, metadata))


def save_bytes(path, data):
    """Write a file that is no artifact (a table for people, a figure) under its name at once."""
    _save(path, lambda temporary: temporary.write_bytes(data))


def save_json(path, values):
    """Write a JSON file under its final name at once."""
    _save(path, lambda temporary: _write_json(temporary, values))


def save_table(path, schema, tables):
    """Write tables as the row groups of one Parquet file under its final name at once."""
    _save(path, lambda temporary: _write_parquet(temporary, RowGroups(schema, tables)))


def _save(path, write):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.parent, path.name)
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(directory, name):
    name = name.replace("/", "-")
    return Path(directory) / f".{platform.node()}.{os.getpid()}.{name}.tmp"


def _remove_temporaries(directory):
    """Remove what killed writers of this machine have left."""
    start = f".{platform.node()}."
    for temporary in directory.glob(".*.tmp"):
        writer = temporary.name.removeprefix(start).split(".")[0]
        if temporary.name.startswith(start) and not Path(f"/proc/{writer}").exists():
            temporary.unlink(missing_ok=True)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_json(directory, name, values):
    temporary = _temporary(directory, name)
    _write_json(temporary, values)
    _flush(temporary)
    os.replace(temporary, directory / name)


def _write_json(path, values):
    path.write_text(json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def _write_parquet(path, content):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(content, pa.Table):
        content = RowGroups(content.schema, [content])
    with pq.ParquetWriter(path, content.schema, **PARQUET) as writer:
        for group in content.groups:
            writer.write_table(group, row_group_size=max(group.num_rows, 1))


def _write_tensors(path, tensors, metadata=None):
    from safetensors.torch import save_file

    tensors = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    save_file(tensors, path, metadata=metadata)


_WRITERS = {
    ".parquet": _write_parquet,
    ".safetensors": _write_tensors,
    ".json": _write_json,
}
