"""Hours of presets on one GPU, estimated: ``python docs/preset_hours.py preset.yaml …``.

Multiply-adds of all jobs, of which those of classifiers are counted by torch, divided by an assumed
rate; a training step takes at least an assumed time. Nothing is computed, and no data is needed.
A training pass counts as three forward passes.
"""

import sys
from functools import cache
from math import ceil
from pathlib import Path

import torch
import yaml
from stillhouse.config.load import complete
from stillhouse.networks import registry
from stillhouse.planning.plan import build
from torch.utils.flop_counter import FlopCounterMode

# Assumed, for one GPU of the kind of an H200 at about half its peak [multiply-adds per second].
FLOAT32, FLOAT16 = 15e12, 150e12
STEP_SECONDS = 0.01  # of a training step, however small
# Of a forward pass of 256 px, from the papers of DiT and of latent diffusion [multiply-adds].
DENOISER = {"dit": 119e9, "stable_diffusion": 85e9}
ENCODER, DECODER = 135e9, 310e9
# D3HR, Table A3: 0.2201 s for 1e5 groups of ten latents of a class on an A100 [s per latent].
GROUP_SECONDS = 0.2201 / 1e6
# Training images of a class, where it has no fixed number; ImageNet-1K's mean.
IMAGES = 1281


@cache
def forward(arch, width, resolution):
    """Return the multiply-adds of a forward pass of a classifier of ten classes."""
    settings = {"arch": arch, "width": width, "norm": "batch", "dropout": 0.0}
    with torch.device("meta"):
        # Building may apply the network, which must not be counted.
        network = registry.build(settings, 10, resolution, 0, "hours").eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, resolution, resolution))
    return counter.get_total_flops() / 2


def passes(spec, resolution):
    """Return the multiply-adds of a forward pass of each of some teachers, summed."""
    specs = spec if isinstance(spec, list) else [spec]
    settings = [one["settings"] for one in specs]
    return sum(forward(one["arch"], one.get("width", 128), resolution) for one in settings)


class Hours:
    """Hours of the stages of a plan, {stage: hours}."""

    def __init__(self, plan):
        self.plan, self.seconds = plan, {}
        known = {"cifar10": 5000, "cifar100": 500, "tiny": 500, "digits": 150}
        self.of_class = {name: known.get(name, IMAGES) for name in plan.config["sources"]}
        for stage, families in plan.families.items():
            for family in families.values():
                self.count(stage, family.artifact.spec(), len(family.members))
        for stage, artifacts in plan.artifacts.items():
            for artifact in artifacts.values():
                self.count(stage, artifact.spec(), 1)

    def count(self, stage, spec, n_members):
        """Add the seconds of some members of an artifact."""
        method = getattr(self, f"_{stage}", None)
        if method:
            seconds = n_members * method(spec["settings"], spec["upstream"], spec)
            self.seconds[stage] = self.seconds.get(stage, 0) + seconds

    def per_class(self, spec):
        """Return the training images per class of an artifact's source."""
        while spec["stage"] != "index":
            upstream = spec["upstream"]
            spec = upstream.get("index") or upstream.get("images") or upstream["latents"]
        return self.of_class[spec["settings"]["name"]]

    def _students(self, settings, upstream, spec):
        own = upstream["distilled"]["settings"] if "distilled" in upstream else settings
        if "distilled" in upstream:
            n_images = upstream["distilled"]["keys"]["ipc"] * len(own["classes"])
        else:
            all_images = self.per_class(spec) * len(own["classes"])
            n_images = settings.get("images_per_epoch", all_images)
        side, network = own["resolution"], settings["network"]
        work = 3 * forward(network["arch"], network.get("width", 128), side)
        if settings["labels"]["kind"] == "online":
            work += passes(upstream["teachers"], side)
        batch, epochs = settings["labels"]["batch_size"], settings["training"]["epochs"]
        steps = epochs * ceil(n_images / batch)
        return max(epochs * n_images * work / FLOAT32, steps * STEP_SECONDS)

    def _labels(self, settings, upstream, spec):
        own = upstream["distilled"]
        n_images = own["keys"]["ipc"] * len(own["settings"]["classes"])
        work = passes(upstream["teachers"], own["settings"]["resolution"])
        return settings["epochs_stored"] * n_images * work / FLOAT32

    def _teacher(self, settings, upstream, spec):
        if "epochs" not in settings:
            return 0
        n_images = settings["epochs"] * self.per_class(spec) * len(settings["classes"])
        steps = n_images / settings["batch_size"]
        return max(
            n_images * 3 * passes(spec, settings["resolution"]) / FLOAT32, steps * STEP_SECONDS
        )

    def _patch_scores(self, settings, upstream, spec):
        n_images = min(settings["images_per_class"], self.per_class(spec))
        side = upstream["teacher"]["settings"]["resolution"]
        return n_images * settings["crops_per_image"] * passes(upstream["teacher"], side) / FLOAT32

    def _statistics(self, settings, upstream, spec):
        n_images = self.per_class(spec) * len(settings["classes"])
        side = upstream["teacher"]["settings"]["resolution"]
        return n_images * passes(upstream["teacher"], side) / FLOAT32

    def _synthesis(self, settings, upstream, spec):
        teachers = upstream["teachers"]
        n_images = spec["keys"]["ipc"] * len(settings["classes"])
        batch = min(settings["batch_size"] or n_images, n_images)
        side = teachers[0]["settings"]["resolution"]
        work = 3 * passes(teachers, side) / len(teachers)
        work *= {"none": 1, "sam": 2}.get(settings["flatness"]["kind"], 4 / 3)
        return settings["iterations"] * max(batch * work / FLOAT32, STEP_SECONDS)

    def _latents(self, settings, upstream, spec):
        side = upstream["denoiser"]["settings"]["resolution"]
        return self.per_class(spec) * ENCODER * (side / 256) ** 2 / FLOAT16

    def denoiser_pass(self, denoiser):
        """Return the seconds of a forward pass of a pretrained denoiser for one image."""
        settings = denoiser["settings"]
        return DENOISER[settings["kind"]] * (settings["resolution"] / 256) ** 2 / FLOAT16

    def _class_scores(self, settings, upstream, spec):
        chosen, all_images = settings["images_per_class"], self.per_class(spec)
        n_images = all_images if chosen == "all" else min(chosen, all_images)
        return n_images * settings["draws"] * 2 * self.denoiser_pass(upstream["denoiser"])

    def _patch_features(self, settings, upstream, spec):
        scores = upstream["scores"]["settings"]
        n_passes = scores["images_per_class"] * settings.get("ensemble", 1)
        if "denoiser" in upstream:
            return n_passes * self.denoiser_pass(upstream["denoiser"])
        return n_passes * ENCODER / FLOAT16

    def _inversion(self, settings, upstream, spec):
        n_steps = 2 * max(settings["snapshots"]) if settings["noising"] != "forward" else 0
        return self.per_class(spec) * n_steps * self.denoiser_pass(upstream["denoiser"])

    def _samples(self, settings, upstream, spec):
        return settings.get("candidates", 0) * spec["keys"]["ipc"] * GROUP_SECONDS

    def _decode(self, settings, upstream, spec):
        n_steps = settings.get("inversion_steps") or settings["steps"] * settings["strength"]
        denoiser = upstream["denoiser"]
        side = denoiser["settings"]["resolution"]
        decoded = DECODER * (side / 256) ** 2 / FLOAT16
        return spec["keys"]["ipc"] * (2 * n_steps * self.denoiser_pass(denoiser) + decoded)

    def _trajectories(self, settings, upstream, spec):
        n_images = settings["epochs"] * self.per_class(spec) * len(settings["classes"])
        work = 3 * self.matched_pass(settings)
        return max(n_images * work / FLOAT32, n_images / settings["batch_size"] * STEP_SECONDS)

    def _rate_utility(self, settings, upstream, spec):
        return settings["joint"]["iterations"] * self.matching_step(settings, spec)

    def _matched(self, settings, upstream, spec):
        return settings["iterations"] * self.matching_step(settings, spec)

    def matched_pass(self, settings):
        """Return the multiply-adds of a forward pass of a matched network."""
        network = settings["network"]
        return forward(network["arch"], network.get("width", 128), settings["resolution"])

    def matching_step(self, settings, spec):
        """Return the seconds of an update by DM, GM or TM, without the codec of images."""
        n_classes, work = len(settings["classes"]), self.matched_pass(settings)
        n_images = spec["keys"]["ipc"] * n_classes
        if settings["utility"] == "tm":
            # Forward, backward, and backward through both, as twice a training pass.
            batch = min(settings["student_batch_size"], n_images)
            steps = settings["student_steps"]
            return steps * max(6 * batch * work / FLOAT32, 3 * STEP_SECONDS)
        real = n_classes * settings["real_images"]
        if settings["utility"] == "dm":
            return max((real + 3 * n_images) * work / FLOAT32, n_classes * STEP_SECONDS)
        inner = settings["inner_epochs"] * n_images / settings["outer_steps"]
        return max((3 * real + 6 * n_images + 3 * inner) * work / FLOAT32, n_classes * STEP_SECONDS)


def estimate(path):
    """Return {stage: hours} of a preset, largest first."""
    plan = build(complete(yaml.safe_load(path.read_text()), path.name, [path]))
    hours = {stage: seconds / 3600 for stage, seconds in Hours(plan).seconds.items()}
    return dict(sorted(hours.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        hours = estimate(path)
        parts = ", ".join(
            f"{stage} {value:.3g}" for stage, value in hours.items() if value >= 0.005
        )
        print(f"{path.stem}: {sum(hours.values()):.3g}: {parts}")
