"""Clusters of similar patches of a class, ranked by class score.

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection" (DDPS, arXiv
2412.09959), section 3.3: k-means; patches are ranked by their distance to the centroid, clusters by
the median of their scores. Ties are ordered by image id, so that the order of rows has no effect.
"""

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import store
from stillhouse.artifacts.rng import generator
from stillhouse.methods.common.features import WHOLE, read_features
from stillhouse.methods.common.selection import fit_kmeans
from stillhouse.methods.ddps.class_scores import PATCH
from stillhouse.methods.ddps.class_scores import SCHEMA as SCORES_SCHEMA

SCHEMA = pa.schema(
    [
        *PATCH,
        ("cluster", pa.int32()),
        ("distance", pa.float32()),
        ("cluster_rank", pa.int32()),
        ("rank", pa.int32()),
    ]
)


def clusters(inputs, spec, context):
    """Stage: cluster the patches of each class and rank clusters and patches."""
    count, seed = spec["settings"]["clusters"], spec["keys"]["seed"]

    def make(class_id, context):
        scores, features = inputs["scores"][class_id], read_features(inputs["features"][class_id])
        columns = [name for name, _ in PATCH]
        table = store.read_table(scores, columns, schema=SCORES_SCHEMA).sort_by("image_id")
        points = np.stack([features[name, WHOLE] for name in table["image_id"].to_pylist()])
        cluster, distance = fit(points, count, generator(seed, "clusters", class_id))
        cluster_rank, rank = ranks(cluster, distance, table["score"].to_numpy())
        fitted = {
            "cluster": cluster,
            "distance": distance,
            "cluster_rank": cluster_rank,
            "rank": rank,
        }
        order = np.lexsort([rank, cluster_rank])
        patches = {name: table[name] for name in columns}
        return {"clusters.parquet": pa.table(patches | fitted, schema=SCHEMA).take(order)}

    return make


def fit(points, count, rng):
    """Cluster points by k-means.

    Parameters
    ----------
    points : (n, d) float array
    count : int
        Clusters, at most the number of distinct points.
    rng : numpy.random.Generator

    Returns
    -------
    cluster : (n,) int32
    distance : (n,) float32
        To the centroid of the point's own cluster.
    """
    points = points.astype(np.float64)
    cluster, centres = fit_kmeans(points, min(count, len(np.unique(points, axis=0))), rng)
    distance = np.linalg.norm(points - centres[cluster], axis=1)
    return cluster.astype(np.int32), distance.astype(np.float32)


def ranks(cluster, distance, scores):
    """Rank clusters by their median score, and the points of each by distance.

    Parameters
    ----------
    cluster : (n,) integers
    distance, scores : (n,) float arrays

    Returns
    -------
    cluster_rank : (n,) int32
        Rank of each point's cluster; 0 has the highest median. Ties go to the cluster with the
        earlier first point.
    rank : (n,) int32
        Rank of each point in its cluster; 0 is the nearest. Ties go to the earlier point.
    """
    members = {}
    for i, label in enumerate(cluster.tolist()):
        members.setdefault(label, []).append(i)
    ordered = sorted(members.values(), key=lambda rows: -np.median(scores[rows]))
    cluster_rank, rank = np.empty((2, len(cluster)), np.int32)
    for place, rows in enumerate(ordered):
        cluster_rank[rows] = place
        nearest = np.array(rows)[np.argsort(distance[rows], kind="stable")]
        rank[nearest] = np.arange(len(rows))
    return cluster_rank, rank
