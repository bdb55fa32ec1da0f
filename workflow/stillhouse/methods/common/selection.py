"""Selection: a few of many points, by herding or k-means.

Herding: Welling, "Herding dynamical weights to learn" (ICML 2009), as used for exemplars by Rebuffi
et al., "iCaRL" (CVPR 2017), eq. 4. K-means: the points nearest to the centres. Baselines of RDED's
supplement, section D.2, which names no feature space: here it is a setting.
"""

import numpy as np


def select(strategy, points, count, rng):
    """Select `count` of (n, d) points by ``herding`` or ``kmeans``: indices, (count,) int64."""
    return herding(points, count) if strategy == "herding" else kmeans(points, count, rng)


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
    """Return the indices of `count` points, one per cluster: the nearest to its centre.

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
    clusters, centres = fit_kmeans(points, count, rng)
    distances = ((points - centres[clusters]) ** 2).sum(1)
    sizes = np.bincount(clusters, minlength=count)
    nearest = [
        np.flatnonzero(clusters == k)[distances[clusters == k].argmin()]
        for k in np.argsort(-sizes, kind="stable")
        if sizes[k]
    ]
    # Points that coincide leave clusters empty: the points nearest to any centre fill up.
    spare = [i for i in np.argsort(distances, kind="stable") if i not in set(nearest)]
    return np.array([*nearest, *spare[: count - len(nearest)]], np.int64)


def fit_kmeans(points, count, rng):
    """Cluster points by scikit-learn's k-means++ and Lloyd's algorithm, best of ten starts.

    Sums of floats depend on the number of threads, which a job limits.

    Parameters
    ----------
    points : (n, d) float array
    count : int
        Number of clusters; at most n.
    rng : numpy.random.Generator

    Returns
    -------
    clusters : (n,) int32
    centres : (count, d) float64
    """
    from sklearn.cluster import KMeans

    seed = int(rng.integers(2**31))
    model = KMeans(count, n_init=10, random_state=seed).fit(points.astype(np.float64))
    return model.labels_, model.cluster_centers_
