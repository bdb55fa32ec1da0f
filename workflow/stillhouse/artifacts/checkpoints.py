"""Pieces of a long table in side files, for a later job of the same digest."""

import time

import pyarrow.parquet as pq

from stillhouse.artifacts import jobs, store

PART_BYTES = 256 * 2**20


class Parts:
    """What is done so far of a table, in files of the job's folder; a name ends in its SHA-256.

    Parameters
    ----------
    context : stillhouse.artifacts.jobs.Context
    schema : pyarrow.Schema
    """

    def __init__(self, context, schema):
        self.context, self.schema = context, schema
        self.started = self.saved = time.monotonic()
        self.fresh, self.n_files = [], 0

    def load(self):
        """Yield the tables that earlier tries have kept, in order; call it before `add`.

        A damaged file and those after it are removed.
        """
        files = sorted(self.context.work.glob("part-*.parquet"))
        for i, path in enumerate(files):
            if store.checksum(path) != path.stem.split("-")[-1]:
                print(f"{path}: damaged, it and what follows is made again", flush=True)
                for stale in files[i:]:
                    stale.unlink()
                return
            self.n_files += 1
            kept = pq.ParquetFile(path)
            for group in range(kept.num_row_groups):
                yield kept.read_row_group(group)

    def add(self, table):
        """Keep one more table; it is written when it is time, or when there is much to write."""
        self.fresh.append(table)
        late = time.monotonic() - self.saved >= self.context.checkpoint_seconds
        if late or sum(table.nbytes for table in self.fresh) > PART_BYTES:
            draft = self.context.work / "part.parquet"
            store.save_table(draft, self.schema, self.fresh)
            stem = f"part-{self.n_files:06d}-{store.checksum(draft)}"
            draft.rename(draft.with_stem(stem))
            jobs.note_seconds(self.context, time.monotonic() - self.started)
            self.fresh, self.saved = [], time.monotonic()
            self.n_files += 1
