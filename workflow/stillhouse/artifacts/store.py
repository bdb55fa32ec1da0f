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


class Missing(StillhouseError):
    """A file of an artifact is not there."""


class Damaged(StillhouseError):
    """A file is truncated, altered, or not what its spec says."""


class Misplaced(StillhouseError):
    """A whole artifact that belongs to another address."""


class WrongType(StillhouseError):
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
    _remove_drafts(directory)
    drafts = {}
    try:
        for name, content in files.items():
            drafts[name] = _draft(directory, name)
            _WRITERS[Path(name).suffix](drafts[name], content)
            _flush(drafts[name])
        sizes = {
            name: {"bytes": draft.stat().st_size, "sha256": checksum(draft)}
            for name, draft in drafts.items()
        }
        sealed = {**spec, "files": sizes}
        _put_json(directory, SPEC, {**sealed, "seal": _seal(sealed)})
        if timing is not None:
            _put_json(directory, TIMING, timing())
        for name, draft in drafts.items():
            (directory / name).parent.mkdir(exist_ok=True)
            os.replace(draft, directory / name)
        for folder in {(directory / name).parent for name in drafts}:
            _flush(folder)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def is_whole(directory, spec, names):
    """Tell whether the artifact at `directory` is there, undamaged, and made by `spec`."""
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
        lost = f"delete the folder {folder} and run again"
        remedy = lost if (folder / SPEC).exists() else "run the workflow again to make it"
        raise Missing(f"{path}: is not there; {remedy}")
    spec, name = read_spec(folder), path.relative_to(folder).as_posix()
    state = path.stat()
    seen = (state.st_mtime_ns, state.st_size, spec["files"].get(name, {}).get("sha256"))
    if _checked.get(path.absolute()) == seen:
        return spec
    remedy = f"delete the folder {folder} and run again"
    kept = spec["files"].get(name)
    if kept is None:
        raise Damaged(f"{path}: is not among the files that {SPEC} beside it lists; {remedy}")
    if state.st_size != kept["bytes"]:
        raise Damaged(
            f"{path}: has {state.st_size} bytes where {SPEC} says {kept['bytes']}; {remedy}"
        )
    if checksum(path) != kept["sha256"]:
        raise Damaged(f"{path}: its content was altered (SHA-256 differs from {SPEC}); {remedy}")
    _checked[path.absolute()] = seen
    return spec


def _folder(path):
    """Return the artifact's folder that a file lies in: its own, or that of its subfolder."""
    above = path.parent.parent
    return above if not (path.parent / SPEC).exists() and (above / SPEC).exists() else path.parent


def read_spec(directory):
    """Read and check the ``spec.json`` of an artifact's folder."""
    path = Path(directory) / SPEC
    if not path.exists():
        raise Missing(f"{path}: is not there; delete the folder {directory} and run again")
    try:
        spec = json.loads(path.read_bytes())
        sound = spec.pop("seal") == _seal(spec)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise Damaged(f"{path}: was altered; delete the folder {directory} and run again")
    address = Path(spec["address"])
    if path.parent.absolute().parts[-len(address.parts) :] != address.parts:
        raise Misplaced(f"{path.parent}: holds the artifact of {address}; put it back or delete it")
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
        raise WrongType(f"{path}: is not a Parquet file") from None
    for column in schema or ():
        index = found.get_field_index(column.name)
        if index < 0 or not found.field(index).type.equals(column.type):
            what = "no such column" if index < 0 else str(found.field(index).type)
            raise WrongType(f"{path}: column {column.name!r} should be {column.type}, is {what}")


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
        raise WrongType(f"{path}: is not a readable safetensors file ({error})") from None


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
        raise WrongType(f"{path}: is not JSON") from None


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
    _save(path, lambda draft: _write_tensors(draft, tensors, metadata))


def save_bytes(path, data):
    """Write a file that is no artifact (a table for people, a figure) under its name at once."""
    _save(path, lambda draft: draft.write_bytes(data))


def save_table(path, schema, tables):
    """Write tables as the row groups of one Parquet file under its final name at once."""
    _save(path, lambda draft: _write_parquet(draft, RowGroups(schema, tables)))


def _save(path, write):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path.parent, path.name)
    try:
        write(draft)
        _flush(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _draft(directory, name):
    name = name.replace("/", "-")
    return Path(directory) / f".{platform.node()}.{os.getpid()}.{name}.draft"


def _remove_drafts(directory):
    """Remove what killed writers of this machine have left."""
    start = f".{platform.node()}."
    for draft in directory.glob(".*.draft"):
        writer = draft.name.removeprefix(start).split(".")[0]
        if draft.name.startswith(start) and not Path(f"/proc/{writer}").exists():
            draft.unlink(missing_ok=True)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_json(directory, name, values):
    draft = _draft(directory, name)
    _write_json(draft, values)
    _flush(draft)
    os.replace(draft, directory / name)


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
