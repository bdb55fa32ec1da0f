"""Warm-up: real images compressed by latents and networks that are fitted to them alone.

C3 (Kim et al., CVPR 2024); Bao et al., "Dataset Distillation as Data Compression", supplement A2,
initialisation; nouise/DD-RUO at f6fc102: presets.py:302-337, training.py:99-112. The loss is
MSE + bits per pixel / β, of images in [0, 1].
"""

import math

import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.bitstream.layout import DECODERS, Layout
from stillhouse.data.transforms import normalised_to_bytes
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.curves import N_POINTS, Curve
from stillhouse.methods.common.initialization import initial_files, initial_images
from stillhouse.methods.ruo import quantiser
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.optimiser import SliceOptimiser
from stillhouse.methods.ruo.slices import set_slices


def compression(inputs, spec, context):
    """Stage: compress the real images of slices, the start of `compressed` and `ruo`.

    ``state.safetensors`` has the ``vector`` of a slice's latents and networks, ``curve.json`` the
    loss, bits per pixel and PSNR over the iterations of the best run, and the results of all runs.
    """
    settings, keys = spec["settings"], spec["keys"]
    files = initial_files(inputs, settings["initial"])

    def make(number, context):
        own = set_slices(settings, keys)[number]
        images = slice_images(own, settings, files, keys["seed"], context)
        codec = Codec(slice_layout(settings), own.n_images)
        images = images.to(context.torch_device())
        warmup = WarmUp(codec, images, settings["warmup"], spec["address"])
        vector, curve = warmup.run((keys["seed"], number), Checkpoint(context))
        return {"curve.json": curve, "state.safetensors": {"vector": vector}}

    return make


def slice_layout(settings):
    """Return the `Layout` of slices, from the settings of their warm-up."""
    widths = DECODERS[settings["decoder"]]
    return Layout(settings["resolution"], widths, settings["context"], settings["depth"])


def slice_images(own, settings, files, seed, context):
    """Return the images that a slice is fitted to, (n, 3, side, side) float32 in [0, 1].

    Parameters
    ----------
    own : stillhouse.methods.ruo.slices.Slice
    settings : dict
    files : dict or Path
        Of real images by class id, or of a distilled set.
    seed : int
    context : stillhouse.artifacts.context.Context
    """
    classes = settings["classes"]
    places = [(classes[label], index) for label, index in own.places]
    kind, roots = settings["initial"], context.source_roots
    images = initial_images(kind, places, files, settings["resolution"], seed, roots=roots)
    return torch.from_numpy(normalised_to_bytes(images)) / 255


class WarmUp:
    """The compression of the images of one slice: restarts, of which the best are continued.

    Parameters
    ----------
    codec : Codec
    images : (n, 3, side, side) float32
        In [0, 1].
    settings : dict
        ``beta``, ``restarts``, ``iterations`` of each, ``finalists``, ``final_iterations`` of each,
        ``learning_rate``, ``schedule``, ``noise``, ``clip``.
    address : str
        Of the artifact, for messages.
    """

    def __init__(self, codec, images, settings, address):
        self.codec, self.images, self.settings, self.address = codec, images, settings, address
        self.device = images.device

    def run(self, key, checkpoint):
        """Run all restarts; return (vector, curve) of the best.

        Parameters
        ----------
        key : tuple
            Of the random numbers: seed and slice.
        checkpoint : stillhouse.artifacts.checkpoints.Checkpoint
        """
        settings = self.settings
        total = settings["restarts"] * settings["iterations"]
        total += settings["finalists"] * settings["final_iterations"]
        runs, done = {}, 0
        stored = checkpoint.resume(f"slice {key[1]}", "iteration")
        if stored is not None:
            runs, done = self._restore(key, *stored)
        progress = iter(track(range(done, total), total - done, "iterations"))
        for number, stop in self._legs(runs):
            own = runs.setdefault(number, Run(self, (*key, number)))
            for i in range(own.done, stop):
                next(progress)
                own.step(i)
                done += 1
                if checkpoint.due(last=done == total):
                    tensors, values = self._state(runs)
                    checkpoint.save(tensors, {"done": done, **values})
            own.finish()
        next(progress, None)
        best = min(runs.values(), key=lambda run: run.result["loss"])
        results = [run.result for _, run in sorted(runs.items())]
        return best.optimiser.vector, {"curve": best.curve.means, "runs": results}

    def _legs(self, runs):
        """Yield (run, its last iteration): all restarts, then the finalists by their loss."""
        count = self.settings["iterations"]
        for number in range(self.settings["restarts"]):
            yield number, count
        ranked = sorted(runs, key=lambda number: runs[number].first_loss)
        for number in ranked[: self.settings["finalists"]]:
            yield number, count + self.settings["final_iterations"]

    def _state(self, runs):
        tensors, values = {}, {}
        for number, run in runs.items():
            sums, points = run.curve.state()
            parts = {**run.optimiser.state(), **{f"curve.{name}": v for name, v in sums.items()}}
            tensors |= {f"{number}.{name}": tensor for name, tensor in parts.items()}
            values[number] = [run.done, run.first_loss, points]
        return tensors, {"runs": values}

    def _restore(self, key, tensors, values):
        runs = {}
        for number, (done, first_loss, points) in values["runs"].items():
            run = runs[int(number)] = Run(self, (*key, int(number)))
            own = select_prefix(tensors, f"{number}.")
            run.done, run.first_loss = done, first_loss
            run.optimiser.restore(own)
            run.curve.restore(select_prefix(own, "curve."), points)
        return runs, values["done"]


class Run:
    """One restart of a warm-up.

    Parameters
    ----------
    warmup : WarmUp
    key : tuple
        Seed, slice, restart.
    """

    def __init__(self, warmup, key):
        self.warmup, self.key = warmup, key
        seed, *item = key
        vector = warmup.codec.initial(generator(seed, "codec", item=item)).to(warmup.device)
        self.optimiser = SliceOptimiser(warmup.codec, vector, warmup.settings["clip"])
        self.curve, self.done, self.first_loss, self.result = Curve(), 0, None, {}

    def step(self, i):
        """Compute iteration i."""
        settings, codec = self.warmup.settings, self.warmup.codec
        total = settings["iterations"] + settings["final_iterations"]
        rate, temperature, strength = annealed(settings, i / total)
        seed, *item = self.key
        key = (seed, "codec noise", "", [*item, i])
        drawn = quantiser.noise(codec.n_latents, settings["noise"], strength, key)
        latents, networks = self.optimiser.parts()
        quantised = quantiser.quantise(latents, temperature, drawn.to(latents.device))
        loss, terms = self._loss(quantised, networks)
        loss.backward()
        self.optimiser.step(rate)
        self.curve.add(terms)
        self.done = i + 1
        every = -(-total // N_POINTS)
        if self.done % every == 0 or self.done == total:
            where, first = f"{self.warmup.address}: slice {item[0]}", i - i % every + 1
            self.curve.check(where, first, self.done, rate, "warmup.learning_rate")
            self.curve.close()

    def _loss(self, quantised, networks):
        codec, images = self.warmup.codec, self.warmup.images
        decoded = codec.images(quantised, networks)
        error = ((decoded - images) ** 2).mean()
        rate = codec.bits(quantised, networks) / codec.n_pixels
        loss = error + rate / self.warmup.settings["beta"]
        psnr = -10 * torch.log10(error.detach().clamp(min=1e-10))
        return loss, {"loss": loss, "bits_per_pixel": rate, "psnr": psnr}

    @torch.no_grad()
    def finish(self):
        """Measure the loss with rounded latents.

        Raises
        ------
        StillhouseError
            If it is not finite.
        """
        latents, networks = self.optimiser.parts()
        loss, terms = self._loss(quantiser.hard_round(latents), networks)
        if not math.isfinite(loss):
            raise StillhouseError(
                f"{self.warmup.address}: warmup.learning_rate: the loss of the compression is not "
                "finite; lower it"
            )
        self.result = {name: round(float(value), 6) for name, value in terms.items()}
        if self.done == self.warmup.settings["iterations"]:
            self.first_loss = float(loss)


def annealed(settings, share):
    """Return (learning rate, temperature, strength of the noise) at a share of the iterations.

    ``constant``: t 0.3, a 2 (C). ``c3``: a half cosine of the rate to zero, t from 0.3 to 0.1, a
    from 2 to 1 (C3, appendix).
    """
    rate, kumaraswamy = settings["learning_rate"], settings["noise"] == "kumaraswamy"
    if settings["schedule"] == "constant":
        return rate, 0.3, 2.0 if kumaraswamy else 0.25
    rate *= (1 + math.cos(math.pi * share)) / 2
    return rate, 0.3 - 0.2 * share, 2.0 - share if kumaraswamy else 0.25
