"""Joint optimisation of rate and utility of all slices of a set.

Bao et al., "Dataset Distillation as Data Compression", supplement A2; nouise/DD-RUO at f6fc102,
core/ts/tensor_pool.py:61-88, 234-251, 371-387. Minimised is λ × utility + Σ over slices of bits per
pixel: the gradient of the utility is computed once, to the images, and pushed back slice by slice.
"""

import math

import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.data.distilled_set import LearnedParts
from stillhouse.methods.common.optimisation import Optimised, optimise
from stillhouse.methods.common.snapshots import first_of_classes, snapshot_table
from stillhouse.methods.common.utilities.loading import load_utility
from stillhouse.methods.ruo import quantiser
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.compression import slice_layout
from stillhouse.methods.ruo.optimiser import SliceOptimiser
from stillhouse.methods.ruo.post_quantisation import image_bytes
from stillhouse.methods.ruo.slices import set_slices

TEMPERATURE = 0.3
# a of Kumaraswamy's distribution; standard deviation of the Gaussian.
STRENGTH = {"kumaraswamy": 2.0, "gaussian": 0.25}
# Pixels of the slices whose graphs are held until the utility's gradient is known, some 800 bytes
# each. Further slices are decoded twice, to the same values.
HELD_PIXELS = 2**21


def rate_utility(inputs, spec, context):
    """Stage: optimise latents and networks of all slices, from their warm-up on.

    ``state.safetensors`` has ``vector0``, ``vector1`` … of the slices; ``curve.json`` the utility,
    bits per pixel and PSNR to the warm-up's images, and the learned rate of students;
    ``snapshots.parquet`` images on the way.
    """
    settings, warmup = spec["settings"], spec["upstream"]["compression"]
    device, seed = context.torch_device(), spec["keys"]["seed"]
    utility = training_utility(inputs, spec, context)

    def make(member, context):
        parts = [
            (Codec(slice_layout(warmup["settings"]), own.n_images), load_vector(path, device))
            for own, path in zip(
                set_slices(warmup["settings"], warmup["keys"]),
                inputs["compression"].values(),
                strict=True,
            )
        ]
        labels = set_labels(warmup).to(device)
        joint = Joint(parts, labels, settings["joint"], seed, utility, spec["address"])
        count = settings["joint"]["iterations"]
        curve, snapshots = optimise(joint, count, Checkpoint(context))
        vectors = {f"vector{i}": optimiser.vector for i, optimiser in enumerate(joint.optimisers)}
        return {
            "curve.json": {"curve": curve, "learning_rate": utility.learning_rate},
            "snapshots.parquet": snapshot_table(snapshots, count),
            "state.safetensors": vectors,
        }

    return make


def training_utility(inputs, spec, context, held_out=False):
    """Return the utility of training images that are not held out, or of those that are."""
    settings, seed = spec["settings"], spec["keys"]["seed"]
    utility = load_utility(settings["utility"], inputs, settings, seed, context)
    if "holdout" in settings:
        ranges = []
        for start, count in utility.real.ranges:
            n_used = count - max(math.ceil(count * settings["holdout"]), 1)
            ranges.append((start + n_used, count - n_used) if held_out else (start, n_used))
        utility.real.ranges = ranges
    return utility


def load_vector(path, device):
    """Return the latents and networks of a slice's warm-up, (n,) float32."""
    return store.read_tensors(path, device)["vector"]


def set_labels(warmup):
    """Return the labels of all images in the order of the slices, (n,) int64."""
    return torch.tensor(
        [label for own in set_slices(warmup["settings"], warmup["keys"]) for label, _ in own.places]
    )


def learned_parts(inputs, spec, context):
    """Return the `LearnedParts` of a set: the learning rate of students, where one is learned."""
    curve = store.read_json(inputs["state"].with_name("curve.json"))
    return LearnedParts(learning_rate=curve["learning_rate"])


class Joint(Optimised):
    """The slices of a set in their joint optimisation.

    Parameters
    ----------
    parts : list of (Codec, (n,) float32)
        Codec and initial vector of each slice.
    labels : (n,) int64 tensor
    settings : dict
        ``lambda`` (two numbers, of the first and the second half), ``iterations``,
        ``learning_rate``, ``ramp``, ``noise``, ``clip``.
    seed : int
    utility : stillhouse.methods.common.utilities.base.Utility
    address : str
        Of the artifact, for messages.
    """

    rate_key = "joint.learning_rate"

    def __init__(self, parts, labels, settings, seed, utility, address):
        self.labels, self.settings, self.seed, self.utility = labels, settings, seed, utility
        self.name, self.learning_rate = address, settings["learning_rate"]
        self.optimisers = [SliceOptimiser(*part, settings["clip"]) for part in parts]
        with torch.no_grad():
            self.start = self.decoded()

    @torch.no_grad()
    def decoded(self):
        """Return all images with rounded latents, (n, 3, side, side)."""
        images = []
        for optimiser in self.optimisers:
            latents, networks = optimiser.parts()
            images.append(optimiser.codec.images(quantiser.hard_round(latents), networks))
        return torch.cat(images)

    def _forward(self, number, iteration):
        """Return (images, bits) of a slice with the noise of an iteration."""
        optimiser, noise = self.optimisers[number], self.settings["noise"]
        codec, key = optimiser.codec, (self.seed, "joint noise", "", (number, iteration))
        drawn = quantiser.noise(codec.n_latents, noise, STRENGTH[noise], key)
        latents, networks = optimiser.parts()
        quantised = quantiser.quantise(latents, TEMPERATURE, drawn.to(latents.device))
        return codec.images(quantised, networks), codec.bits(quantised, networks)

    def step(self, iteration):
        """Update all slices; return {term: value} before the update."""
        images, held = self._decode(iteration)
        loss, gradient = self.utility(images, self.labels, iteration)
        bits = self._push_back(self._lambda(iteration) * gradient, held, iteration)
        error = ((images - self.start) ** 2).mean()
        values = {
            "utility": loss,
            "bits_per_pixel": bits / self.n_pixels,
            "psnr": float(-10 * torch.log10(error.clamp(min=1e-10))),
        }
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _decode(self, iteration):
        """Return the images of all slices, and {slice: (images, bits)} of those with graphs."""
        held, images, pixels = {}, [], 0
        for number, optimiser in enumerate(self.optimisers):
            pixels += optimiser.codec.n_pixels
            with torch.set_grad_enabled(pixels <= HELD_PIXELS):
                decoded, bits = self._forward(number, iteration)
            if decoded.requires_grad:
                held[number] = decoded, bits
            images.append(decoded.detach())
        return torch.cat(images), held

    def _push_back(self, gradient, held, iteration):
        """Update all slices by the gradient to their images and of their rates; return the bits.

        Parameters
        ----------
        gradient : (n, 3, side, side) float32
            Of λ × utility to all images.
        held : dict
            From `_decode`.
        iteration : int
        """
        total, first, rate = 0.0, 0, self._rate(iteration)
        for number, optimiser in enumerate(self.optimisers):
            decoded, bits = held.pop(number, None) or self._forward(number, iteration)
            own = gradient[first : first + len(decoded)]
            first += len(decoded)
            per_pixel = bits / optimiser.codec.n_pixels
            torch.autograd.backward([decoded, per_pixel], [own, torch.ones_like(bits)])
            optimiser.step(rate)
            total += float(bits.detach())
        return total

    @property
    def n_pixels(self):
        """Pixels of all images."""
        return sum(optimiser.codec.n_pixels for optimiser in self.optimisers)

    def _rate(self, iteration):
        """Return the learning rate, which rises over the first ``ramp`` iterations."""
        ramp = self.settings["ramp"]
        return self.learning_rate * min(1.0, (iteration + 1) / max(ramp, 1))

    def _lambda(self, iteration):
        weights = self.settings["lambda"]
        return weights[iteration * len(weights) // self.settings["iterations"]]

    def snapshot(self):
        """Return the first images of the first classes, see `Optimised`."""
        return torch.from_numpy(image_bytes(self.decoded()[first_of_classes(self.labels)]))

    def state(self):
        """Return the slices, the images that they started from, and the state of the utility."""
        state = {f"utility.{name}": value for name, value in self.utility.state().items()}
        for i, optimiser in enumerate(self.optimisers):
            state |= {f"slice{i}.{name}": tensor for name, tensor in optimiser.state().items()}
        return {"start": self.start, **state}

    def restore(self, state):
        """Continue from a `state`."""
        for i, optimiser in enumerate(self.optimisers):
            optimiser.restore(select_prefix(state, f"slice{i}."))
        self.utility.restore(select_prefix(state, "utility."))
        self.start = state["start"].to(self.start.device)
