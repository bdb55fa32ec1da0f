"""Training labels of students: hard, learned, stored in a soft label table, or online."""

from abc import ABC, abstractmethod

import torch
from torch.nn.functional import softmax

from stillhouse.artifacts import store
from stillhouse.artifacts.rng import generator
from stillhouse.augmentation.views import draw, render
from stillhouse.data.distilled_set import read_learned
from stillhouse.errors import StillhouseError
from stillhouse.evaluation.label_tables import load_labels
from stillhouse.evaluation.teacher_ensemble import TeacherEnsemble


def open_labels(settings, images, hard, classes, inputs):
    """Return the `LabelSource` of the settings.

    Parameters
    ----------
    settings : dict
        ``kind`` (hard, learned, soft, online), ``batch_size``; for drawn views ``views``, and of
        online labels ``seed``; of soft ones optionally ``epoch_order``.
    images : (n, 3, side, side) uint8 tensor
    hard : (n,) int64 tensor
    classes : list of str
    inputs : dict
        ``distilled``: the set, for learned labels; ``labels``: the table, for soft ones;
        ``teachers``: weights, for online ones.
    """
    kind = settings["kind"]
    if kind == "soft":
        store.check([inputs["labels"]])
        table = load_labels(inputs["labels"], images.device)
        return StoredLabels(settings, images, hard, table)
    if kind == "online":
        ensemble = TeacherEnsemble(inputs["teachers"], classes, images.device)
        return OnlineLabels(settings, images, hard, ensemble)
    if kind == "learned":
        return LearnedLabels(settings, images, hard, inputs["distilled"])
    return HardLabels(settings, images, hard, len(classes))


class LabelSource(ABC):
    """Views of distilled images and their targets, epoch by epoch.

    Parameters
    ----------
    settings : dict
        ``batch_size``, ``views``.
    images : (n, 3, side, side) uint8 tensor
    hard : (n,) int64 tensor
        Class of each image.

    Attributes
    ----------
    n_views : int
        Views per epoch.
    """

    # Of the random numbers of views; other numbers than those of a label table of the same seed.
    stage = "student views"

    def __init__(self, settings, images, hard):
        self.settings, self.images, self.hard = settings, images, hard
        self.n_views = len(images)

    @abstractmethod
    def epoch(self, epoch, seed):
        """Return (views, targets) of an epoch, on the device.

        Slices of the targets are (rows, classes) float32 in the order of the views: probabilities
        or logits.
        """

    def draw(self, epoch, seed):
        """Return random views of an epoch, on the device."""
        side, batch_size = self.images.shape[-1], self.settings["batch_size"]
        views = draw(
            self.settings["views"], seed, epoch, self.n_views, side, batch_size, self.stage
        )
        return views.to(self.images.device)


class FixedLabels(LabelSource):
    """One distribution per image, for views drawn by the student's seed; mixed as the views are."""

    @abstractmethod
    def distributions(self, rows):
        """Return the distributions of images, (rows, classes) float32, on the device."""

    def epoch(self, epoch, seed):
        """Return (views, `FixedTargets`) of an epoch."""
        views = self.draw(epoch, seed)
        return views, FixedTargets(self, views)


class FixedTargets:
    """Targets of an epoch's views, computed when they are indexed.

    All targets of ImageNet-1K's training images would have 5 GB.

    Parameters
    ----------
    labels : FixedLabels
    views : stillhouse.augmentation.views.Views
    """

    def __init__(self, labels, views):
        self.labels, self.views = labels, views

    def __getitem__(self, rows):
        """Return the probabilities of a slice of the views, (rows, classes) float32."""
        views = self.views
        own = self.labels.distributions(views.index[rows])
        if views.mix == "none":
            return own
        partner = self.labels.distributions(views.index[views.partner[rows]])
        return torch.lerp(partner, own, views.mix_weight[rows, None])


class HardLabels(FixedLabels):
    """The class of each image, as a one-hot distribution.

    Parameters
    ----------
    n_classes : int
    """

    def __init__(self, settings, images, hard, n_classes):
        super().__init__(settings, images, hard)
        self.classes = torch.arange(n_classes, device=images.device)

    def distributions(self, rows):
        """Return the one-hot distributions of images, (rows, classes) float32."""
        # Unlike one_hot, without waiting for a GPU.
        return (self.hard[rows, None] == self.classes).float()


class LearnedLabels(FixedLabels):
    """The labels that a method has learned with the images, as distributions.

    Learned logits become distributions by a softmax at temperature 1, as in DATM (Guo et al., ICLR
    2024), so that views can be mixed.

    Parameters
    ----------
    path : Path
        ``images.parquet`` of the distilled set.

    Raises
    ------
    StillhouseError
        If it has no learned labels.
    """

    def __init__(self, settings, images, hard, path):
        learned = read_learned(path)
        if learned is None or learned.labels is None:
            raise StillhouseError(
                f"{path}: learned_label: missing column; use other labels, or a method that learns "
                "them"
            )
        labels = torch.from_numpy(learned.labels.copy())
        labels = softmax(labels, 1) if learned.label_kind == "logits" else labels
        super().__init__(settings, images, hard)
        self.learned = labels.to(images.device)

    def distributions(self, rows):
        """Return the learned distributions of images, (rows, classes) float32."""
        return self.learned[rows]


class StoredLabels(LabelSource):
    """Views and teacher logits of a soft label table.

    By default the same for every student. With ``epoch_order: random`` each epoch is a stored one,
    drawn with the student's seed, as in LPLD (Xiao & He, NeurIPS 2024;
    train_FKD_label_pruning_batch.py, granularity epoch).

    Parameters
    ----------
    table : stillhouse.evaluation.label_tables.SoftLabelTable
    """

    def __init__(self, settings, images, hard, table):
        super().__init__(settings, images, hard)
        self.table = table

    def epoch(self, epoch, seed):
        """Return (views, logits) of an epoch, on the device."""
        if self.settings.get("epoch_order") == "random":
            epoch = int(generator(seed, "label epochs", item=epoch).random() * len(self.table))
        return self.table.epoch(epoch)


class OnlineLabels(LabelSource):
    """Teacher logits computed during training, for the views that a table of the seed would store.

    Parameters
    ----------
    teachers : stillhouse.evaluation.teacher_ensemble.TeacherEnsemble
    """

    stage = "views"

    def __init__(self, settings, images, hard, teachers):
        super().__init__(settings, images, hard)
        self.teachers = teachers

    def epoch(self, epoch, seed):
        """Return (views, logits) of an epoch, on the device."""
        views = self.draw(epoch, self.settings["seed"])
        n, step = len(self.images), self.settings["batch_size"]
        logits = [self.teachers(render(self.images, views, i, i + step)) for i in range(0, n, step)]
        return views, torch.cat(logits)
