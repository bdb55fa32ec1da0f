"""DDPS: the patches with the highest class scores of every cluster.

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection" (arXiv
2412.09959), sections 3.3 and 3.4, supplement section 5. No official code is known.
"""

from stillhouse.artifacts import store
from stillhouse.data.class_images import read_class
from stillhouse.methods.common.patches import assign, stitched_images
from stillhouse.methods.ddps import class_scores, clusters


def images_of_class(inputs, spec, class_id, context):
    """Return the images of one class, [(pixels, origin)]: (3, side, side) uint8, boxes.

    Settings: ``resolution``, ``patches_per_side``, ``ranking`` and, for ``ranking: clusters``,
    ``clusters_used``.
    """
    settings, ipc = spec["settings"], spec["keys"]["ipc"]
    n_patches = settings["patches_per_side"] ** 2
    selected = _selected(inputs, settings, ipc * n_patches, class_id)
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    # paper: does not specify which patches share an image; here: patch k of image j has rank
    # k · IPC + j, as in RDED's code. At IPC 10 these are the four patches of one cluster.
    places = assign(len(selected) // n_patches, n_patches, "rank_blocks", None)
    return stitched_images(selected, rows, places, settings["resolution"], "nearest")


def _selected(inputs, settings, count, class_id):
    """Return the rows of the selected patches, in order."""
    if settings["ranking"] == "score":
        # Without clustering (the paper's Table 5).
        columns = [name for name, _ in class_scores.PATCH]
        table = store.read_table(inputs["scores"][class_id], columns, schema=class_scores.SCHEMA)
        return by_score(table.to_pylist())[:count]
    table = store.read_table(inputs["clusters"][class_id], schema=clusters.SCHEMA)
    return select_patches(table.to_pylist(), count, settings["clusters_used"])


def by_score(rows):
    """Return rows by descending score; ties by image id."""
    return sorted(rows, key=lambda row: (-row["score"], row["image_id"]))


def select_patches(rows, count, n_clusters):
    """Return `count` patches of one class: equally many of each best cluster, then by score.

    Parameters
    ----------
    rows : list of dicts with the columns of `stillhouse.methods.ddps.clusters.SCHEMA`
    count : int
        Number of patches: IPC, or 4 · IPC.
    n_clusters : int
        Clusters that patches are selected from (paper: 10 of 32).

    Returns
    -------
    list of dicts
        The nearest patch of each of the first clusters, then the second nearest of each and so on,
        count // n_clusters per cluster. The best scores of all remaining patches fill the positions
        of missing ones. All rows if there are fewer than `count`.

    Notes
    -----
    The supplement, section 5, has 4 · IPC // N up to IPC 10 and IPC // N above, which is count // N
    of the variant that the paper uses for these IPCs. Here, both variants use it at every IPC. For
    fewer patches than clusters (single: IPC below N; concat: IPC 1 and 2), all patches are selected
    by score.
    """
    share = count // n_clusters
    by_rank = {(row["rank"], row["cluster_rank"]): row for row in rows}
    # One entry per patch of the clusters; None if a cluster has too few patches.
    places = [by_rank.get((rank, c)) for rank in range(share) for c in range(n_clusters)]
    used = {row["image_id"] for row in places if row}
    rest = iter(by_score(row for row in rows if row["image_id"] not in used))
    filled = [row or next(rest, None) for row in places]
    return [row for row in [*filled, *rest] if row][:count]
