"""Observers: frozen teachers whose feature statistics synthesised images match."""

import torch

from stillhouse.errors import StillhouseError
from stillhouse.methods.statistical_matching.feature_statistics import StatisticsRecorder
from stillhouse.methods.statistical_matching.matching import Matching, targets
from stillhouse.methods.statistical_matching.statistics import read_statistics
from stillhouse.training import loop
from stillhouse.training.teachers import load_teacher


class Observer:
    """A frozen teacher with its matching loss and the output indices of the dataset's classes.

    Parameters
    ----------
    recorder : stillhouse.methods.statistical_matching.feature_statistics.StatisticsRecorder
    matching : stillhouse.methods.statistical_matching.matching.Matching or None
        Of one batch; None if no statistics are matched.
    outputs : (classes,) int64 tensor
    """

    def __init__(self, recorder, matching, outputs):
        self.recorder, self.matching, self.outputs = recorder, matching, outputs

    def __call__(self, images):
        """Return (logits of the dataset's classes, statistics)."""
        logits, recorded = self.recorder(images)
        return logits.float()[:, self.outputs], recorded

    def logits(self, images):
        """Return the logits of the dataset's classes, without statistics."""
        return self.recorder.forward_only(images).float()[:, self.outputs]


class LoadedObserver:
    """A frozen teacher and its target statistics, loaded once for all batches.

    Parameters
    ----------
    recorder : stillhouse.methods.statistical_matching.feature_statistics.StatisticsRecorder
    targets : stillhouse.methods.statistical_matching.matching.Targets or None
    outputs : (classes,) int64 tensor
    settings : dict
        Of the stage.
    """

    def __init__(self, recorder, targets, outputs, settings):
        self.recorder, self.targets = recorder, targets
        self.outputs, self.settings = outputs, settings

    def for_batch(self, labels):
        """Return the `Observer` of a batch of images with these labels, (n,) int64."""
        matching = None
        if self.targets is not None:
            weights = self.settings["loss_weights"]
            matching = Matching(self.targets, labels, self.settings, weights)
        return Observer(self.recorder, matching, self.outputs)


def load_observer(model, statistics, settings, device):
    """Return the `LoadedObserver` of a teacher.

    Parameters
    ----------
    model, statistics : Path
        A teacher's ``model.safetensors``, and its ``statistics.safetensors`` or None.
    settings : dict
        Of the stage.
    device : torch.device

    Raises
    ------
    StillhouseError
        If the network has none of the matched layers.
    """
    teacher = load_teacher(model, device)
    net, side = teacher.net, teacher.resolution
    loop.to_memory_format(net, settings)
    recorder = StatisticsRecorder(net, settings["kinds"], settings["tile"])
    stored = read_statistics(statistics, settings["classes"]) if statistics else None
    with torch.no_grad():
        _, recorded = recorder(torch.zeros((1, 3, side, side), device=device))
    outputs = teacher.columns(settings["classes"]).to(device)
    if settings["kinds"] and not recorded:
        raise StillhouseError(
            f"{model}: missing layers to match ({', '.join(settings['kinds'])}); use another "
            "observer"
        )
    matched = targets(net, recorded, stored, settings, device) if recorded else None
    return LoadedObserver(recorder, matched, outputs, settings)
