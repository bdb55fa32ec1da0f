"""Gradient matching: the gradients of real and distilled images to the weights of a network.

Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021, equations 9 and 10; official
code VICO-UoE/DatasetCondensation at 53f63a6, main.py, utils.py. With siamese augmentation: Zhao &
Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from stillhouse.artifacts.checkpoints import select_prefix
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.methods.common.utilities.base import Utility
from stillhouse.methods.common.utilities.distribution_matching import rows_of_classes
from stillhouse.methods.common.utilities.networks import inputs_of, random_network
from stillhouse.methods.common.utilities.siamese import augment, augment_classes

# Added to the product of two norms (utils.py, distance_wb).
EPSILON = 1e-6


class GradientMatching(Utility):
    """Σ over classes of the layer-wise cosine distance of the gradients of two cross-entropies.

    A network lasts `outer_steps` iterations; before each but its first it is trained on the
    distilled images for `inner_epochs`. The first call may be of any iteration.

    Parameters
    ----------
    settings : dict
        ``network``, ``classes``, ``resolution``, ``real_images`` (per class and iteration),
        ``outer_steps``, ``inner_epochs``, ``inner_batch_size``, ``network_rate`` (learning rate of
        the network's training, without momentum).
    real : stillhouse.methods.common.utilities.real_images.RealImages
    siamese : stillhouse.methods.common.utilities.siamese.Siamese
    """

    def __init__(self, settings, real, siamese):
        self.settings, self.real, self.siamese = settings, real, siamese
        self.net, self.weights = None, {}

    def __call__(self, images, labels, iteration):
        """Return (loss, gradient), see `Utility`; the loss is summed over classes."""
        number, step = divmod(iteration, self.settings["outer_steps"])
        if step == 0 or self.net is None:
            self._begin(number, images.device)
        else:
            self._train(images.detach(), labels, iteration)
        rows, loss = rows_of_classes(labels), 0.0
        gradient = torch.zeros_like(images)
        drawn = self.siamese.of_classes(rows, iteration)
        count = self.settings["real_images"]
        for label, places in rows.items():
            real = self.real.draw([label], count, iteration)
            real = augment_classes(real, {label: len(real)}, drawn)
            wanted = self._slopes(real, label)
            pixels = images[places].detach().requires_grad_(True)
            inputs = inputs_of(pixels, self.real.prepare)
            distilled = augment_classes(inputs, {label: len(places)}, drawn)
            distance = layer_distance(self._slopes(distilled, label, create_graph=True), wanted)
            gradient[places] = torch.autograd.grad(distance, pixels)[0]
            loss += distance.item()
        return loss, gradient

    def _begin(self, number, device):
        """Start a network with new random weights."""
        self.net = random_network(self.settings, self.real.seed, number, device)
        named = self.net.named_parameters()
        self.weights = {name: weight.detach().requires_grad_(True) for name, weight in named}

    def _slopes(self, inputs, label, create_graph=False):
        """Return the gradients of the cross-entropy of one class to all weights."""
        outputs = functional_call(self.net, self.weights, (inputs,))
        targets = torch.full((len(inputs),), label, device=inputs.device)
        weights = list(self.weights.values())
        loss = cross_entropy(outputs, targets)
        return torch.autograd.grad(loss, weights, create_graph=create_graph)

    def _train(self, images, labels, iteration):
        """Train the network on distilled images by gradient descent."""
        settings, inputs = self.settings, inputs_of(images, self.real.prepare)
        weights = list(self.weights.values())
        for epoch in range(settings["inner_epochs"]):
            item = f"{iteration}, {epoch}"
            rng = generator(self.real.seed, "utility inner order", item=item)
            order = torch.from_numpy(permutation(rng, len(images))).to(images.device)
            parts = order.split(settings["inner_batch_size"])
            sizes = [len(part) for part in parts]
            drawn = self.siamese.of_steps(sizes, "utility inner siamese", item)
            for part, operations in zip(parts, drawn, strict=True):
                batch = augment(inputs[part], operations)
                outputs = functional_call(self.net, self.weights, (batch,))
                slopes = torch.autograd.grad(cross_entropy(outputs, labels[part]), weights)
                with torch.no_grad():
                    torch._foreach_add_(weights, slopes, alpha=-settings["network_rate"])

    def state(self):
        """Return the weights of the current network; empty before the first iteration."""
        return {f"weight.{name}": w.detach().clone() for name, w in self.weights.items()}

    def restore(self, state):
        """Continue from a `state`."""
        self.net, self.weights = None, {}
        weights = select_prefix(state, "weight.")
        if weights:
            self._begin(0, self.real.pixels.device)
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(weights[name])


def layer_distance(slopes, wanted):
    """Return the distance of two gradients: Σ over layers and output units of 1 - cosine.

    Gradients of one dimension (biases, scales and shifts of norms) do not count (utils.py,
    distance_wb).

    Parameters
    ----------
    slopes, wanted : sequence of tensor
        One per weight; the first dimension counts the output units.

    Returns
    -------
    scalar tensor
        From 0 to twice the number of output units.
    """
    total = 0.0
    for own, other in zip(slopes, wanted, strict=True):
        if own.ndim > 1:
            own, other = own.flatten(1), other.flatten(1)
            norms = own.norm(dim=1) * other.norm(dim=1)
            total = total + (1 - (own * other).sum(1) / (norms + EPSILON)).sum()
    return total
