"""Loss curves over the iterations of an optimisation."""

import math

from stillhouse.errors import StillhouseError


class Diverged(StillhouseError):
    """A loss of an optimisation that is not finite."""


class Curve:
    """Means of losses over intervals of iterations.

    ``means`` is a dict of str to list of float, one per interval; None if none of an interval has
    the loss.
    """

    def __init__(self):
        self.means, self.sums, self.counts = {}, {}, {}

    def add(self, losses):
        """Add the losses of one iteration, scalar tensors by name."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def close(self):
        """End an interval.

        Raises
        ------
        Diverged
            If the mean of a loss is not finite.
        """
        for name, total in self.sums.items():
            if not math.isfinite(float(total)):
                last = [mean for mean in self.means.get(name, ()) if mean is not None]
                finite = f"the last finite mean is {last[-1]:.4g}" if last else "none was finite"
                raise Diverged(f"{name} {float(total):.4g}, {finite}")
        done = max(map(len, self.means.values()), default=0)
        for name in self.sums.keys() | self.means.keys():
            means = self.means.setdefault(name, [None] * done)
            mean = float(self.sums[name]) / self.counts[name] if name in self.sums else None
            means.append(None if mean is None else round(mean, 6) + 0.0)  # no -0.0
        self.sums, self.counts = {}, {}

    def last(self):
        """Return the means of the last interval as text."""
        return " ".join(f"{k} {v[-1]:.4f}" for k, v in sorted(self.means.items()) if v[-1])


def close_interval(curve, where, first, last, rate, key="learning_rate"):
    """End an interval of a curve; name its iterations and the rate if a loss is not finite.

    Parameters
    ----------
    curve : Curve
    where : str
        Begins the message: a batch, a slice, a method.
    first, last : int
        Iterations of the interval, from 1.
    rate : float
        Learning rate of the interval, set by `key` of the method.

    Raises
    ------
    Diverged
    """
    try:
        curve.close()
    except Diverged as error:
        raise Diverged(
            f"{where}: diverged in iterations {first} to {last}, {error}; lower the method's "
            f"{key}, now {rate:g}"
        ) from None
