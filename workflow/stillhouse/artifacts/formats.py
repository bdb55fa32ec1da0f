"""File formats: Parquet, safetensors and JSON files, written completely or not at all.

A file is written under a temporary name, flushed and renamed. `stillhouse.artifacts.store` writes
artifacts with this module. Other files (figures, checkpoints) are saved with it directly. Numbers
that are not finite, and faults of the disk, are errors with the name of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.artifacts import finite, machine_faults
from stillhouse.errors import StillhouseError

# The Snakefile imports this module: functions import heavy packages on demand.
if TYPE_CHECKING:
    import pyarrow as pa

# Dictionaries and statistics enlarge files of small row groups.
PARQUET = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": False,
}


# Memory and rows of a Parquet file that are read at once: structs of 2 GiB cannot be read.
BATCH_BYTES = 2**26
BATCH_ROWS = 2**16


@dataclass(frozen=True)
class RowGroups:
    """Content of a Parquet file that is written one row group at a time, to save memory.

    Parameters
    ----------
    schema : pyarrow.Schema
    groups : iterable of pyarrow.Table
    options : dict
        Of `pyarrow.parquet.ParquetWriter`, in place of those in `PARQUET`.
    """

    schema: pa.Schema
    groups: Iterable[pa.Table]
    options: dict = field(default_factory=dict)


@contextlib.contextmanager
def _written(path, temporary, n_bytes):
    """Name the file in errors of its content and of the disk; remove the temporary file."""
    try:
        yield
    except finite.NotFinite as error:
        temporary.unlink(missing_ok=True)
        raise StillhouseError(f"{path}: {error}; {finite.CAUSES}") from None
    except BaseException as error:
        written = temporary.stat().st_size if temporary.exists() else 0
        temporary.unlink(missing_ok=True)
        fault = machine_faults.of_file(error, path, max(n_bytes, written))
        if fault is not None:
            raise fault from None
        raise


def checksum(path):
    """Return the SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_bytes(path, data):
    """Write bytes (a report, a figure) to a file."""
    _save(path, lambda temporary: temporary.write_bytes(data), len(data))


def save_json(path, values):
    """Write plain values to a JSON file."""
    _save(path, lambda temporary: _write_json(temporary, values))


def save_table(path, schema, tables):
    """Write tables as the row groups of one Parquet file."""
    _save(path, lambda temporary: _write_parquet(temporary, RowGroups(schema, tables)))


def save_tensors(path, tensors, metadata=None):
    """Write a dict of tensors to a safetensors file, with metadata {name: text}."""
    n_bytes = size_of(tensors)
    _save(path, lambda temporary: _write_tensors(temporary, tensors, metadata), n_bytes)


def _save(path, write, n_bytes=0):
    path = Path(path)
    temporary = temporary_path(path.parent, path.name)
    with _written(path, temporary, n_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)


def size_of(content):
    """Return the bytes of a dict of tensors or of a table in memory; 0 for other content."""
    if isinstance(content, dict):
        sizes = [getattr(tensor, "nbytes", 0) for tensor in content.values()]
        return sum(size for size in sizes if isinstance(size, int))
    return getattr(content, "nbytes", 0)


def batches(parquet, group, columns):
    """Yield columns of a row group in batches of about `BATCH_BYTES`, whatever its size.

    Parameters
    ----------
    parquet : pyarrow.parquet.ParquetFile
    group : int
    columns : list of str
    """
    metadata = parquet.metadata.row_group(group)
    chunks = [metadata.column(i) for i in range(metadata.num_columns)]
    starts = tuple(f"{name}." for name in columns)  # names may have dots themselves
    chosen = (c for c in chunks if f"{c.path_in_schema}.".startswith(starts))
    sizes = [chunk.total_uncompressed_size for chunk in chosen]
    mean = max(sum(sizes) // max(metadata.num_rows, 1), 1)
    n_rows = min(max(BATCH_BYTES // mean, 1), BATCH_ROWS)
    yield from parquet.iter_batches(n_rows, [group], columns, use_threads=False)


def write_temporary(directory, name, content):
    """Write a file, in the format of its suffix, under a temporary name, and flush it.

    Parameters
    ----------
    directory : Path
    name : str
        Relative to the folder; may include a subfolder.
    content
        See `stillhouse.artifacts.store.write`.

    Returns
    -------
    Path
        In `directory` itself; missing if the content could not be written.
    """
    temporary = temporary_path(directory, name)
    with _written(Path(directory) / name, temporary, size_of(content)):
        if isinstance(content, Path):
            shutil.move(content, temporary)
        else:
            WRITERS[Path(name).suffix](temporary, content)
        flush(temporary)
    return temporary


def temporary_path(directory, name):
    """Return the temporary path of a file: hidden, with host name and process id."""
    name = name.replace("/", "-")
    return Path(directory) / f".{platform.node()}.{os.getpid()}.{name}.tmp"


def remove_temporaries(directory):
    """Remove temporary files that killed processes of this machine have left."""
    start = f".{platform.node()}."
    for temporary in directory.glob(".*.tmp"):
        writer = temporary.name.removeprefix(start).split(".")[0]
        if temporary.name.startswith(start) and not Path(f"/proc/{writer}").exists():
            temporary.unlink(missing_ok=True)


def flush(path):
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_json(path, values):
    finite.check_values(values)
    text = json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n")


def _write_parquet(path, content):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(content, pa.Table):
        content = RowGroups(content.schema, [content])
    with pq.ParquetWriter(path, content.schema, **{**PARQUET, **content.options}) as writer:
        for group in content.groups:
            finite.check_table(group)
            writer.write_table(group, row_group_size=max(group.num_rows, 1))


def _write_bytes(path, data):
    path.write_bytes(data)


def _write_tensors(path, tensors, metadata=None):
    from safetensors.torch import save_file

    tensors = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    finite.check_tensors(tensors)
    save_file(tensors, path, metadata=metadata)


WRITERS = {
    ".parquet": _write_parquet,
    ".safetensors": _write_tensors,
    ".json": _write_json,
    ".bits": _write_bytes,
}
