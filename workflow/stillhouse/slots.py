"""Which images are synthesised together: statistics are matched over a batch.

Plain lists: the plan is made with this module.
"""


def batches(order, n_classes, ipc, batch_size):
    """Return the batches of a set's images, each a list of (class, index).

    Parameters
    ----------
    order : str
        ``by_class``: all images of a class, then of the next (G-VBSM, EDC); ``by_copy``: one image
        of each class, then the next of each (SRe2L), a batch never having two of a class.
    n_classes, ipc : int
    batch_size : int
        Images a batch, 0 for all; the last batch may have fewer.
    """
    size = batch_size or n_classes * ipc
    if order == "by_class":
        slots = [(label, index) for label in range(n_classes) for index in range(ipc)]
        return [slots[first : first + size] for first in range(0, len(slots), size)]
    size = min(size, n_classes)
    return [
        [(label, index) for label in range(first, min(first + size, n_classes))]
        for index in range(ipc)
        for first in range(0, n_classes, size)
    ]


def numbers(settings, keys):
    """Return the numbers of the batches of a synthesis, from its settings and keys."""
    shared = (settings["order"], len(settings["classes"]), keys["ipc"], settings["batch_size"])
    return range(len(batches(*shared)))
