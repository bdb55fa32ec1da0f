"""Loss curves over the iterations of an optimisation."""

import math

from stillhouse.training.loop import Diverged

# Points of a curve, for any number of iterations.
N_POINTS = 100


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

    def check(self, where, first, last, rate, key="learning_rate"):
        """Raise `Diverged` if a loss of the current interval is not finite.

        Parameters
        ----------
        where : str
            Begins the message: a batch, a slice, an address.
        first, last : int
            Iterations of the interval so far, from 1.
        rate : float
            Learning rate of the interval, set by `key` of the method.
        """
        for name, total in self.sums.items():
            if not math.isfinite(float(total)):
                means = [mean for mean in self.means.get(name, ()) if mean is not None]
                finite = f"the last finite mean is {means[-1]:.4g}" if means else "none was finite"
                raise Diverged(
                    f"{where}: diverged in iterations {first} to {last}, {name} {float(total):.4g},"
                    f" {finite}; lower the method's {key}, now {rate:g}"
                )

    def close(self):
        """End an interval."""
        done = max(map(len, self.means.values()), default=0)
        for name in self.sums.keys() | self.means.keys():
            means = self.means.setdefault(name, [None] * done)
            mean = float(self.sums[name]) / self.counts[name] if name in self.sums else None
            means.append(None if mean is None else round(mean, 6) + 0.0)  # no -0.0
        self.sums, self.counts = {}, {}

    def state(self):
        """Return (tensors, plain values) to continue from."""
        return dict(self.sums), {"means": self.means, "counts": self.counts}

    def restore(self, sums, values):
        """Continue from a `state`."""
        self.sums, self.means, self.counts = sums, values["means"], values["counts"]

    def last(self):
        """Return the means of the last interval as text."""
        return " ".join(f"{k} {v[-1]:.4f}" for k, v in sorted(self.means.items()) if v[-1])
