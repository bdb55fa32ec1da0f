"""Clusters: groups of a class's patches that look alike, ranked by typicality.

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection" (DDPS, arXiv
2412.09959), section 3.3: k-means, patches by their distance to the centroid, clusters by the median
of their scores. Ties go by image id, so that nothing depends on the order of rows.
"""

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import store
from stillhouse.methods.common.selection import WHOLE, read_features
from stillhouse.methods.ddps import class_scores
from stillhouse.rng import generator

SCHEMA = pa.schema(
    [
        *class_scores.PATCH,
        ("cluster", pa.int32()),
        ("distance", pa.float32()),
        ("cluster_rank", pa.int32()),
        ("rank", pa.int32()),
    ]
)


def clusters(inputs, spec, context):
    """Stage: cluster the patches of each class and rank clusters and patches."""
    feature_files = inputs["features"]
    score_files = inputs["scores"]
    count, seed = spec["settings"]["clusters"], spec["keys"]["seed"]
    columns = [name for name, _ in class_scores.PATCH]

    def make(class_id, context):
        table = store.read_table(score_files[class_id], columns, schema=class_scores.SCHEMA)
        rows = sorted(table.to_pylist(), key=lambda row: row["image_id"])
        found = read_features(feature_files[class_id])
        points = np.stack([found[row["image_id"], WHOLE] for row in rows])
        cluster, distance = fit(points, count, generator(seed, "clusters", class_id))
        scores = np.array([row["score"] for row in rows], np.float32)
        cluster_rank, rank = ranks(cluster, distance, scores)
        added = {
            "cluster": cluster,
            "distance": distance,
            "cluster_rank": cluster_rank,
            "rank": rank,
        }
        order = np.lexsort([rank, cluster_rank])
        whole = {name: [row[name] for row in rows] for name in columns} | added
        return {"clusters.parquet": pa.table(whole, schema=SCHEMA).take(order)}

    return make


def fit(points, count, rng):
    """Cluster points by k-means: k-means++ and Lloyd's algorithm, best of ten starts.

    Parameters
    ----------
    points : (n, d) float array
    count : int
        Clusters; where fewer points are distinct, so many.
    rng : numpy.random.Generator

    Returns
    -------
    cluster : (n,) int32
    distance : (n,) float32
        To the centroid of the point's own cluster.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    points = points.astype(np.float64)
    count = min(count, len(np.unique(points, axis=0)))
    # One thread: the sums of floats depend on how many there are.
    with threadpool_limits(1):
        model = KMeans(count, n_init=10, random_state=int(rng.integers(2**31))).fit(points)
    distance = np.linalg.norm(points - model.cluster_centers_[model.labels_], axis=1)
    return model.labels_.astype(np.int32), distance.astype(np.float32)


def ranks(cluster, distance, scores):
    """Rank clusters by their median score, and the points of each by distance.

    Parameters
    ----------
    cluster : (n,) integers
    distance, scores : (n,) float arrays

    Returns
    -------
    cluster_rank : (n,) int32
        Of each point's cluster; 0 has the highest median. Of a tie, the cluster with the earlier
        first point is first.
    rank : (n,) int32
        Of each point in its cluster; 0 is the nearest. Of a tie, the earlier point is first.
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
