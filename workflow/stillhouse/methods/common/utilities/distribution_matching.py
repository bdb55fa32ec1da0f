"""Distribution matching: mean embeddings of real and distilled images in random networks.

Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 6; official
code VICO-UoE/DatasetCondensation at 53f63a6, main_DM.py.
"""

import torch

from stillhouse.data.transforms import normalise
from stillhouse.methods.common.utilities.base import Utility
from stillhouse.methods.common.utilities.networks import Embedding, inputs_of, random_network
from stillhouse.methods.common.utilities.siamese import augment
from stillhouse.networks.architectures import has_batchnorm

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
        embedding, rows = Embedding(net), rows_of_classes(labels)
        drawn = self.siamese.of_classes(rows, iteration)
        targets = self._targets(embedding, rows, drawn, iteration)
        loss, gradient = 0.0, torch.zeros_like(images)
        sizes = {label: len(places) for label, places in rows.items()}
        for chunk in chunks(sizes, self.chunk):
            places = torch.cat([rows[label] for label in chunk])
            pixels = images[places].detach().requires_grad_(True)
            parts = inputs_of(pixels).split([sizes[label] for label in chunk])
            augmented = [augment(part, drawn[c]) for c, part in zip(chunk, parts, strict=True)]
            means = class_means(embedding(torch.cat(augmented)), [sizes[c] for c in chunk])
            wanted = torch.stack([targets[label] for label in chunk])
            distance = ((means - wanted) ** 2).sum()
            gradient[places] = torch.autograd.grad(distance, pixels)[0]
            loss += distance.item()
        return loss, gradient

    @torch.no_grad()
    def _targets(self, embedding, rows, drawn, iteration):
        """Return {label: mean embedding of real images, (d,)}."""
        count, targets = self.settings["real_images"], {}
        sizes = {label: min(count, self.real.ranges[label][1]) for label in rows}
        for chunk in chunks(sizes, self.chunk):
            augmented = [
                augment(normalise(self.real.draw(label, count, iteration)), drawn[label])
                for label in chunk
            ]
            means = class_means(embedding(torch.cat(augmented)), [sizes[c] for c in chunk])
            targets |= dict(zip(chunk, means, strict=True))
        return targets


def rows_of_classes(labels):
    """Return {label: its rows, (k,) int64} of the classes that occur, in ascending order."""
    return {int(label): (labels == label).nonzero()[:, 0] for label in labels.unique()}


def chunks(sizes, most):
    """Return lists of labels with together about `most` images, whole classes; one list for None.

    Parameters
    ----------
    sizes : dict of int to int
        Images by label.
    most : int or None
    """
    groups, total = [[]], 0
    for label, size in sizes.items():
        if groups[-1] and most is not None and total + size > most:
            groups.append([])
            total = 0
        groups[-1].append(label)
        total += size
    return groups


def class_means(embeddings, sizes):
    """Return the means of consecutive rows, (classes, d), of `sizes` rows each."""
    return torch.stack([part.mean(0) for part in embeddings.split(sizes)])
