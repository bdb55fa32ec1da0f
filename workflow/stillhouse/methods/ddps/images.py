"""DDPS: the patches that a diffusion model finds most typical of their class, of every kind.

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection" (arXiv
2412.09959), sections 3.3 and 3.4, supplement section 5. No official code is known.
"""

import torch

from stillhouse.artifacts import store
from stillhouse.config.limits import patches_per_side
from stillhouse.data.class_images import decode, read_class
from stillhouse.methods.ddps import class_scores, clusters
from stillhouse.methods.rded.images import assign, boxes_of, cut_many, stitch, to_bytes


def ddps_class(inputs, spec, class_id, context):
    """Return the images of one class: [(pixels, origin)], see `stillhouse.methods.distilled`.

    Settings: ``resolution``, ``variant``, ``patch``, ``ranking`` and, where that is ``clusters``,
    ``clusters_used``.
    """
    settings, ipc = spec["settings"], spec["keys"]["ipc"]
    resolution = settings["resolution"]
    factor = patches_per_side(settings["variant"], ipc, settings["patch"])
    chosen = _chosen(inputs, settings, ipc * factor**2, class_id)
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    pixels = [decode(rows.read(row["image_id"]), row["image_id"]) for row in chosen]
    crops = cut_many(pixels, boxes_of(chosen), resolution // factor, torch.device("cpu"))
    patches = to_bytes(crops, "nearest")
    # paper: does not say which patches share an image; here: patch k of image j is the one chosen
    # as number k · IPC + j, as in RDED's code. At IPC 10 those are the four of one cluster.
    places = assign(len(chosen) // factor**2, factor**2, "rank_blocks", None)
    fields = ("image_id", "top", "left", "height", "width")
    return [
        (stitch(patches[ranks], resolution), [{k: chosen[i][k] for k in fields} for i in ranks])
        for ranks in places
    ]


def _chosen(inputs, settings, count, class_id):
    """Return the rows of the patches that are to be used, in order."""
    if settings["ranking"] == "score":
        # Nothing is clustered (the paper's Table 5): the table of scores is enough.
        columns = [name for name, _ in class_scores.PATCH]
        table = store.read_table(inputs["scores"][class_id], columns, schema=class_scores.SCHEMA)
        return by_score(table.to_pylist())[:count]
    table = store.read_table(inputs["clusters"][class_id], schema=clusters.SCHEMA)
    return choose(table.to_pylist(), count, settings["clusters_used"])


def by_score(rows):
    """Return rows by descending score; ties by image id."""
    return sorted(rows, key=lambda row: (-row["score"], row["image_id"]))


def choose(rows, count, n_clusters):
    """Return `count` patches of one class: as many from each of the best clusters, then by score.

    Parameters
    ----------
    rows : list of dicts with the columns of `stillhouse.methods.ddps.clusters.SCHEMA`
    count : int
        Patches wanted: IPC, or 4 · IPC.
    n_clusters : int
        Clusters that are used first (paper: 10 of 32).

    Returns
    -------
    list of dicts
        Of the first clusters the nearest patch of each, the second nearest of each and so on,
        count // n_clusters from each; what lacks is filled in by the best scores of all patches
        left. All rows where there are fewer than `count`.

    Notes
    -----
    The supplement, section 5, has 4 · IPC // N up to IPC 10 and IPC // N above: count // N of the
    variant that the paper uses there. Both variants keep to it at every IPC. So where an IPC is
    below the number of clusters (single), or 4 · IPC is (concat: IPC 1 and 2), all patches are
    chosen by score.
    """
    share = count // n_clusters
    found = {(row["rank"], row["cluster_rank"]): row for row in rows}
    # A place for every patch that the clusters should give: what lacks is filled in where it lacks.
    places = [found.get((rank, c)) for rank in range(share) for c in range(n_clusters)]
    taken = {row["image_id"] for row in places if row}
    rest = iter(by_score(row for row in rows if row["image_id"] not in taken))
    filled = [row or next(rest, None) for row in places]
    return [row for row in [*filled, *rest] if row][:count]
