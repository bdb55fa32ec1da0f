"""Checkpoints: the state of an unfinished job, for a later job of the same artifact.

They are stored in ``context.work``, outside the artifacts, in a folder named by the artifact's
digest, with checksums: a damaged checkpoint is ignored.
"""

import hashlib
import json
import time

from stillhouse.artifacts import finite, formats, jobs
from stillhouse.errors import StillhouseError

CHUNK_BYTES = 256 * 2**20


class Checkpoint:
    """Tensors and plain values of an unfinished job, in one safetensors file.

    The file is renamed into place. Its metadata hold the values and a checksum.

    Parameters
    ----------
    context : stillhouse.artifacts.context.Context
    """

    def __init__(self, context):
        self.path = context.work / "state.safetensors"
        self.context = context
        self.started = self.saved = time.monotonic()

    def due(self, last=False):
        """Return whether ``checkpoint_seconds`` have passed since the last save.

        With `last`, since the start, so that the last step of a long job is always saved.
        """
        since = self.started if last else self.saved
        return time.monotonic() - since >= self.context.checkpoint_seconds

    def save(self, tensors, values):
        """Write tensors and plain values, completely or not at all.

        Parameters
        ----------
        tensors : dict of str to tensor
        values : dict
            Plain values; ``done`` is the number of finished steps, printed by `resume`.
        """
        text = json.dumps(values, allow_nan=False)
        metadata = {"values": text, "sha256": _tensors_checksum(tensors, text)}
        formats.save_tensors(self.path, tensors, metadata)
        jobs.note_seconds(self.context, time.monotonic() - self.started)
        self.saved = time.monotonic()

    def load(self):
        """Return (tensors, values) of the last save; None if it is missing or damaged."""
        if not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as stored:
                text = stored.metadata()["values"]
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                if _tensors_checksum(tensors, text) == stored.metadata()["sha256"]:
                    return tensors, finite.read_json(text)
        except (SafetensorError, KeyError, TypeError, ValueError, StillhouseError):
            pass
        print(f"{self.path}: damaged; starting over", flush=True)
        return None

    def resume(self, task, unit, **expected):
        """Return (tensors, values) as `load` does, and print where the job resumes.

        Parameters
        ----------
        task, unit : str
            "<task>: resumes after <unit> <number>".
        expected
            Values that must equal the saved ones; the checkpoint is ignored otherwise.
        """
        stored = self.load()
        if stored is None or any(stored[1][name] != value for name, value in expected.items()):
            return None
        print(f"{task}: resumes after {unit} {stored[1]['done']}", flush=True)
        return stored


def _tensors_checksum(tensors, text):
    """Return the SHA-256 of a text and of named tensors, as hexadecimal text."""
    import torch

    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        data = tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy())
    return digest.hexdigest()


def select_prefix(tensors, prefix):
    """Return the entries whose names start with a prefix, under their names without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


class TableCheckpoint:
    """The finished tables of a long Parquet file, in files whose names end in their SHA-256.

    Parameters
    ----------
    context : stillhouse.artifacts.context.Context
    schema : pyarrow.Schema
    """

    def __init__(self, context, schema):
        self.context, self.schema = context, schema
        self.started = self.saved = time.monotonic()
        self.unsaved, self.n_files = [], 0

    def resume(self, task, unit):
        """Yield the saved tables in order and print where the job resumes; must precede `add`.

        A damaged file is removed, and so are those after it.

        Parameters
        ----------
        task, unit : str
            "<task>: resumes after <unit> <number>", where the number counts tables.
        """
        import pyarrow.parquet as pq

        paths = self._undamaged()
        self.n_files = len(paths)
        done = sum(pq.read_metadata(path).num_row_groups for path in paths)
        if done:
            print(f"{task}: resumes after {unit} {done}", flush=True)
        for path in paths:
            stored = pq.ParquetFile(path)
            for group in range(stored.num_row_groups):
                yield stored.read_row_group(group)

    def _undamaged(self):
        paths = sorted(self.context.work.glob("part-*.parquet"))
        for i, path in enumerate(paths):
            if formats.checksum(path) != path.stem.split("-")[-1]:
                print(f"{path}: damaged; recomputing it and the files after it", flush=True)
                for stale in paths[i:]:
                    stale.unlink()
                return paths[:i]
        return paths

    def add(self, table):
        """Add a table; save the unsaved tables if a save is due or they are large."""
        self.unsaved.append(table)
        due = time.monotonic() - self.saved >= self.context.checkpoint_seconds
        if due or sum(table.nbytes for table in self.unsaved) > CHUNK_BYTES:
            temporary = self.context.work / "part.parquet"
            formats.save_table(temporary, self.schema, self.unsaved)
            stem = f"part-{self.n_files:06d}-{formats.checksum(temporary)}"
            temporary.rename(temporary.with_stem(stem))
            jobs.note_seconds(self.context, time.monotonic() - self.started)
            self.unsaved, self.saved = [], time.monotonic()
            self.n_files += 1
