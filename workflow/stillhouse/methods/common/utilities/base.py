"""What a utility is: a loss of distilled images, with its gradient to them.

Methods that optimise pixels, and those that optimise what decodes to pixels, call the same ones:

utility = load_utility("dm", inputs, settings, seed, context)
for i in range(first, iterations):
    loss, gradient = utility(images, labels, i)
"""

from abc import ABC, abstractmethod


class Utility(ABC):
    """A loss of distilled images that falls as networks trained on them become better.

    Its random numbers depend on its seed and the iteration alone, never on the number of calls;
    what it carries from one iteration to the next is in `state`. Iterations are called once each
    and in order. To evaluate images beside the optimisation, `restore` the state of before.

    Attributes
    ----------
    learning_rate : float or None
        Learning rate of students that was learned so far; None for utilities that learn none.
    """

    learning_rate = None

    @abstractmethod
    def __call__(self, images, labels, iteration):
        """Return (loss, gradient).

        Parameters
        ----------
        images : (n, 3, side, side) float32 tensor
            In [0, 1], not normalised, on the utility's device; values outside are not clamped.
            No gradient is tracked through them.
        labels : (n,) int64 tensor
            Positions in the dataset's classes, in any order; not all classes have to occur.
        iteration : int
            From 0.

        Returns
        -------
        loss : float
            Finite, if the images are.
        gradient : (n, 3, side, side) float32 tensor
            Of the loss to `images`, on their device.
        """

    def state(self):
        """Return what the next iteration depends on, a flat dict of str to tensor or number.

        For `stillhouse.artifacts.checkpoints.Checkpoint`: tensors are copies, and `restore` of the
        same state gives the same bytes.
        """
        return {}

    def restore(self, state):
        """Continue from a `state`.

        Parameters
        ----------
        state : dict of str to (tensor or number)
            Tensors may be on any device.
        """
        if state:
            raise ValueError(f"{type(self).__name__}: has no state {sorted(state)}")
