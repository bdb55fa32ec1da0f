"""Coresets: choosing a few of many by their features.

Herding: Welling, "Herding dynamical weights to learn" (ICML 2009), as used for exemplars by Rebuffi
et al., "iCaRL" (CVPR 2017), eq. 4. K-means: the points nearest to the centres. Baselines of RDED's
supplement, section D.2, which names no feature space: here it is a setting.
"""

import numpy as np

from stillhouse.artifacts import store

# A whole image, in place of a crop's number.
WHOLE = -1


def choose(strategy, points, count, rng):
    """Choose `count` of (n, d) points by ``herding`` or ``kmeans``: indices, (count,) int64."""
    return herding(points, count) if strategy == "herding" else kmeans(points, count, rng)


def read_features(path):
    """Return the features of a class by (image id, crop), each (d,) float32."""
    table = store.read_table(path)
    column = table["features"].combine_chunks()
    matrix = column.flatten().to_numpy().reshape(len(column), -1)
    keys = zip(table["image_id"].to_pylist(), table["crop"].to_pylist(), strict=True)
    return dict(zip(keys, matrix, strict=True))


def herding(points, count):
    """Return the indices of `count` points, in the order in which they are chosen, (count,) int64.

    Each is the one that brings the mean of those chosen nearest to the mean of all:
    argmin ‖μ - (x + Σ chosen) / k‖ (iCaRL, eq. 4). A smaller count is a prefix; the first index of
    a tie wins.

    Parameters
    ----------
    points : (n, d) float array
    count : int
        At most n.
    """
    points = points.astype(np.float64)
    mean, chosen = points.mean(0), np.zeros(points.shape[1])
    squares = (points**2).sum(1)
    free = np.ones(len(points), bool)
    order = []
    for k in range(1, count + 1):
        # ‖kμ - Σ - x‖² without what is the same for all x.
        cost = squares - 2 * points @ (k * mean - chosen)
        best = int(np.argmin(np.where(free, cost, np.inf)))
        free[best] = False
        chosen += points[best]
        order.append(best)
    return np.array(order, np.int64)


def kmeans(points, count, rng):
    """Return the indices of `count` points, one a cluster: the nearest to its centre.

    scikit-learn's k-means++ and Lloyd's algorithm, best of ten starts.

    Parameters
    ----------
    points : (n, d) float array
    count : int
        Number of clusters; at most n.
    rng : numpy.random.Generator

    Returns
    -------
    (count,) int64, largest cluster first
    """
    from sklearn.cluster import KMeans

    seed = int(rng.integers(2**31))
    model = KMeans(count, n_init=10, random_state=seed).fit(points.astype(np.float64))
    distances = ((points - model.cluster_centers_[model.labels_]) ** 2).sum(1)
    sizes = np.bincount(model.labels_, minlength=count)
    nearest = [
        np.flatnonzero(model.labels_ == k)[distances[model.labels_ == k].argmin()]
        for k in np.argsort(-sizes, kind="stable")
        if sizes[k]
    ]
    # Points that coincide leave clusters empty: the points nearest to any centre fill up.
    spare = [i for i in np.argsort(distances, kind="stable") if i not in set(nearest)]
    return np.array([*nearest, *spare[: count - len(nearest)]], np.int64)
