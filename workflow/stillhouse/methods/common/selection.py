"""Selection of points by herding or k-means.

Herding: Welling, "Herding dynamical weights to learn" (ICML 2009), as used for exemplars by Rebuffi
et al., "iCaRL" (CVPR 2017), eq. 4. K-means: the points nearest to the centres. Baselines of RDED's
supplement, section D.2. It names no feature space, which is a setting here.
"""

import numpy as np


def select(strategy, points, count, rng):
    """Return the indices, (count,) int64, of points selected by ``herding`` or ``kmeans``."""
    return herding(points, count) if strategy == "herding" else kmeans(points, count, rng)


def herding(points, count):
    """Return the indices of `count` points, in the order of their selection, (count,) int64.

    Each selected point brings the mean of the selected points nearest to the mean of all points:
    argmin ‖μ - (x + Σ selected) / k‖ (iCaRL, eq. 4). Fewer indices are a prefix of more. Ties go to
    the first index.

    Parameters
    ----------
    points : (n, d) float array
    count : int
        At most n.
    """
    points = points.astype(np.float64)
    mean, selected = points.mean(0), np.zeros(points.shape[1])
    squares = (points**2).sum(1)
    free = np.ones(len(points), bool)
    order = []
    for k in range(1, count + 1):
        # ‖kμ - Σ - x‖² without the terms that are equal for all x.
        cost = squares - 2 * points @ (k * mean - selected)
        best = int(np.argmin(np.where(free, cost, np.inf)))
        free[best] = False
        selected += points[best]
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
    # Equal points leave clusters empty; the points nearest to any centre fill up.
    spare = [i for i in np.argsort(distances, kind="stable") if i not in set(nearest)]
    return np.array([*nearest, *spare[: count - len(nearest)]], np.int64)


def fit_kmeans(points, count, rng):
    """Cluster points by scikit-learn's k-means++ and Lloyd's algorithm, best of ten starts.

    The sums depend on the number of threads, which the job limits.

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
