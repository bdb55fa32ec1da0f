"""Snapshots: the images of an optimisation at its start, after each quarter and at its end."""

import numpy as np
import pyarrow as pa

from stillhouse.data.codecs import IMAGE, encode

SNAPSHOTS = pa.schema([("iteration", pa.int32()), ("image", IMAGE)])
# Snapshots after the initial one, for any number of iterations; classes per snapshot.
N_SNAPSHOTS, N_CLASSES = 4, 10


def snapshot_iterations(count):
    """Return the numbers of iterations after which a snapshot is stored: 0, each quarter."""
    return sorted({count * i // N_SNAPSHOTS for i in range(N_SNAPSHOTS + 1)})


def snapshot_table(snapshots, count):
    """Return the table of snapshots over `count` iterations, in their order.

    Parameters
    ----------
    snapshots : (k, m, 3, side, side) uint8 tensor
        One per entry of `snapshot_iterations`.
    count : int
    """
    rows = [
        {"iteration": iteration, "image": {"bytes": encode(image, "png"), "path": None}}
        for iteration, images in zip(snapshot_iterations(count), snapshots.numpy(), strict=True)
        for image in images
    ]
    return pa.Table.from_pylist(rows, SNAPSHOTS)


def first_of_classes(labels):
    """Return the row of the first image of each of up to ten classes, by label: a list."""
    rows = {int(label): i for i, label in reversed(list(enumerate(labels.tolist())))}
    return [rows[label] for label in sorted(rows)[:N_CLASSES]]


def write_sheet(snapshots, path):
    """Write snapshots as one PNG image, one row per iteration.

    Parameters
    ----------
    snapshots : (k, m, 3, side, side) uint8 tensor
    path : Path
    """
    rows = [np.concatenate(list(images.numpy()), 2) for images in snapshots]
    path.write_bytes(encode(np.concatenate(rows, 1), "png"))
