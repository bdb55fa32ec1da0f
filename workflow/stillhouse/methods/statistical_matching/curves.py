"""Loss curves over the iterations of a synthesis."""

import math

from stillhouse.errors import StillhouseError


class Diverged(StillhouseError):
    """A loss of a synthesis that is not finite."""


class Curve:
    """Means of losses over intervals of iterations.

    ``means`` is a dict of str to list of float, one per interval; None if no observer of an
    interval has the loss.
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
