"""Distribution matching: mean embeddings of real and distilled images in random networks.

Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 6; official
code VICO-UoE/DatasetCondensation at 53f63a6, main_DM.py.
"""

import torch

from stillhouse.methods.common.utilities.base import Utility
from stillhouse.methods.common.utilities.networks import inputs_of, random_network
from stillhouse.methods.common.utilities.siamese import augment_classes
from stillhouse.networks.architectures import has_batchnorm
from stillhouse.networks.features import ClassifierInput

# Images per pass, rounded up to whole classes. Part of the numbers: sums depend on it.
CHUNK = 128


class DistributionMatching(Utility):
    """Σ over classes of ‖mean embedding of real - mean embedding of distilled images‖².

    Every iteration has a network with new random weights, new real images, and per class one
    augmentation that real and distilled images share.

    Parameters
    ----------
    settings : dict
        ``network``, ``classes``, ``resolution``, ``real_images`` (per class and iteration).
    real : stillhouse.methods.common.utilities.real_images.RealImages
    siamese : stillhouse.methods.common.utilities.siamese.Siamese
    """

    def __init__(self, settings, real, siamese):
        self.settings, self.real, self.siamese = settings, real, siamese
        # Batch norms compute their statistics over all classes together (main_DM.py, 172-190).
        self.chunk = None if has_batchnorm(settings["network"]) else CHUNK

    def __call__(self, images, labels, iteration):
        """Return (loss, gradient), see `Utility`; the loss is summed over classes."""
        net = random_network(self.settings, self.real.seed, iteration, images.device)
        embedding, rows = ClassifierInput(net), rows_of_classes(labels)
        drawn = self.siamese.of_classes(rows, iteration)
        targets = self._targets(embedding, rows, drawn, iteration)
        loss, gradient = 0.0, torch.zeros_like(images)
        for sizes in chunks({label: len(own) for label, own in rows.items()}, self.chunk):
            places = torch.cat([rows[label] for label in sizes])
            pixels = images[places].detach().requires_grad_(True)
            augmented = augment_classes(inputs_of(pixels, self.real.prepare), sizes, drawn)
            means = class_means(embedding(augmented), sizes)
            wanted = torch.stack([targets[label] for label in sizes])
            distance = ((means - wanted) ** 2).sum()
            gradient[places] = torch.autograd.grad(distance, pixels)[0]
            loss += distance.item()
        return loss, gradient

    @torch.no_grad()
    def _targets(self, embedding, labels, drawn, iteration):
        """Return {label: mean embedding of real images, (d,)}."""
        count, targets = self.settings["real_images"], {}
        for sizes in chunks(self.real.sizes(labels, count), self.chunk):
            real = augment_classes(self.real.draw(sizes, count, iteration), sizes, drawn)
            targets |= dict(zip(sizes, class_means(embedding(real), sizes), strict=True))
        return targets


def rows_of_classes(labels):
    """Return {label: its rows, (k,) int64} of the classes that occur, in ascending order."""
    return {int(label): (labels == label).nonzero()[:, 0] for label in labels.unique()}


def chunks(sizes, most):
    """Return parts of `sizes` with together about `most` images, whole classes; one part for None.

    Parameters
    ----------
    sizes : dict of int to int
        Images by label.
    most : int or None
    """
    parts, total = [{}], 0
    for label, size in sizes.items():
        if parts[-1] and most is not None and total + size > most:
            parts.append({})
            total = 0
        parts[-1][label] = size
        total += size
    return parts


def class_means(embeddings, sizes):
    """Return the means of consecutive rows, (classes, d), by the sizes of the classes."""
    parts = embeddings.flatten(1).split(list(sizes.values()))
    return torch.stack([part.mean(0) for part in parts])
