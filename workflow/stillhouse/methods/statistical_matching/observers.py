"""Observers: frozen teachers that images are synthesised for, and what their layers should see."""

import torch

from stillhouse.errors import StillhouseError
from stillhouse.methods.statistical_matching import statistics
from stillhouse.methods.statistical_matching.feature_statistics import Watch
from stillhouse.methods.statistical_matching.matching import Matching, targets
from stillhouse.training import loop
from stillhouse.training.teachers import load_teacher


class Observer:
    """A watched network, what its layers should see, and where it says the dataset's classes.

    Parameters
    ----------
    watch : stillhouse.methods.statistical_matching.feature_statistics.Watch
    matching : stillhouse.methods.statistical_matching.matching.Matching or None
        Of one batch; None where nothing is matched.
    outputs : (classes,) int64 tensor
    """

    def __init__(self, watch, matching, outputs):
        self.watch, self.matching, self.outputs = watch, matching, outputs

    def __call__(self, images):
        """Return (logits of the dataset's classes, moments)."""
        logits, moments = self.watch(images)
        return logits.float()[:, self.outputs], moments

    def logits(self, images):
        """Return the logits of the dataset's classes alone."""
        return self.watch.unwatched(images).float()[:, self.outputs]


def load_observer(model, collected, settings, device):
    """Return a function from a batch to its `Observer`; network and targets are read once.

    Parameters
    ----------
    model, collected : Path
        A teacher's ``model.safetensors``, and its ``statistics.safetensors`` or None.
    settings : dict
        Of the stage.
    device : torch.device

    Raises
    ------
    StillhouseError
        If the network has none of the layers that are to be matched.
    """
    net, its, side = load_teacher(model, device)
    net.to(memory_format=loop.memory_format(settings))
    watch = Watch(net, settings["kinds"], settings["tile"])
    kept = statistics.read(collected, settings["classes"]) if collected else None
    with torch.no_grad():
        _, moments = watch(torch.zeros((1, 3, side, side), device=device))
    own = torch.tensor([its.index(class_id) for class_id in settings["classes"]], device=device)
    if settings["kinds"] and not moments:
        raise StillhouseError(
            f"{model}: has none of the layers to be matched ({', '.join(settings['kinds'])}); "
            "another observer is needed"
        )
    if not moments:
        return lambda batch: Observer(watch, None, own)
    wanted, weights = targets(net, moments, kept, settings, device), settings["weights"]
    return lambda batch: Observer(watch, Matching(wanted, batch.labels, settings, weights), own)
