"""Sizes of sources and networks, by which cost formulas compute the `Work` of artifacts.

Without torch, because rules ask for it.
"""

from functools import cache

from stillhouse.artifacts.context import AUTO_BATCH, MEMORY_BYTES
from stillhouse.artifacts.stages import Work, load_function
from stillhouse.data.sources import catalogue

# Multiply-adds of a forward pass per pixel of the image, counted by torch.utils.flop_counter; they
# hardly depend on the resolution. tests/planning/test_sizes.py counts them again.
PER_PIXEL = {
    "resnet18_modified": 542e3,
    "resnet101_modified": 2451e3,
    "resnet18_instance": 36e3,
    "alexnet_small": 239e3,
    "vgg11_small": 149e3,
    "vit_patch16_512x10": 70e3,
    "wrn16_2": 99e3,
    "mobilenetv2_small": 6e3,
    "shufflenetv2_small": 10e3,
    "torchvision/resnet18": 36e3,
    "torchvision/resnet50": 81e3,
    "torchvision/resnet101": 155e3,
    "torchvision/mobilenet_v2": 6e3,
    "torchvision/efficientnet_b0": 8e3,
    "torchvision/shufflenet_v2_x0_5": 0.8e3,
    "torchvision/alexnet": 14e3,
    "torchvision/vgg11": 152e3,
    "torchvision/densenet121": 56e3,
    "torchvision/convnext_tiny": 89e3,
    "torchvision/vit_b_16": 350e3,
    "torchvision/swin_t": 89e3,
    "torchvision/swin_v2_t": 98e3,
    "timm/deit_tiny_patch16_224": 25e3,
}
# Of any other network; most libraries' networks have fewer.
UNKNOWN = 200e3
# Of a forward pass of 256 px, from the papers of DiT and of latent diffusion.
DENOISER = {"dit": 119e9, "stable_diffusion": 85e9}
ENCODER, DECODER = 135e9, 310e9
PRETRAINED_BYTES = 5e9  # weights of a pretrained denoiser with its autoencoder, in float32
# Mean training and test images of a class of ImageNet-1K, by its smallest class. Elsewhere classes
# are taken for equal, with a test image for four training images (digits; CIFAR has five).
MEAN = {732: (1281, 50)}
TEST_SHARE = 0.25
# An image costs as much time as so many pixels before its first is decoded.
OPENED = 2000
# Activations of a network per pixel of a batch, on a CPU: without and with gradients [bytes].
PASSED, TRAINED = 1000, 8000
# Passes of k-means over its vectors, ten starts included; an assumption.
KMEANS_PASSES = 300
RGB = 3
# A training pass counts as three forward passes.
TRAINING = 3


@cache
def forward(arch, width, resolution):
    """Return the multiply-adds of a forward pass of a classifier for one image."""
    if arch.startswith("convnet"):
        depth = int(arch.removeprefix("convnet"))
        channels = [RGB] + [width] * (depth - 1)
        per_pixel = sum(9 * inner * width / 4**block for block, inner in enumerate(channels))
    elif arch == "resnetap10":
        per_pixel = 432e3 / (1 if resolution <= 64 else 4 if resolution <= 128 else 12)
    else:
        per_pixel = PER_PIXEL.get(arch, UNKNOWN)
    return per_pixel * resolution**2


class Sizes:
    """Sizes that formulas share; those of sources are from the config.

    Parameters
    ----------
    config : dict
        As `stillhouse.config.load.complete` returns it.
    """

    def __init__(self, config):
        self.sources, self.datasets = config["sources"], config["datasets"]
        batch_size = config["compute"]["batch_size"]
        self._works = {}
        self.batch_size = AUTO_BATCH["cpu"] if batch_size == "auto" else batch_size

    def work(self, artifact):
        """Return the `Work` of an artifact, or of one of its members, computed once."""
        if artifact.directory not in self._works:
            formula = artifact.stage.work
            work = load_function(formula)(artifact, self) if formula else Work()
            self._works[artifact.directory] = work
        return self._works[artifact.directory]

    def source(self, artifact):
        """Return the settings of the source that an artifact comes from."""
        while artifact.stage.name != "index":
            upstream = dict(artifact.parts())
            names = [name for name in ("index", "images", "latents") if name in upstream]
            artifact = upstream[(names or list(upstream))[0]]
        return self.sources[artifact.settings["name"]]

    def per_class(self, artifact):
        """Return the mean number of training images per class of an artifact's source."""
        return self._counts(artifact)[0]

    def tests_per_class(self, artifact):
        """Return the mean number of test images per class of an artifact's source."""
        return self._counts(artifact)[1]

    def _counts(self, artifact):
        settings = self.source(artifact)
        n = catalogue.n_smallest(settings)
        n_train, n_test = MEAN.get(n, (n, n * TEST_SHARE))
        share = settings["holdout"]
        return n_train * (1 - share), n_train * share or n_test

    def split_bytes(self, artifact, resolution, classes):
        """Return the bytes of a training split in memory, as pixels."""
        return self.held(self.per_class(artifact) * len(classes), resolution)

    def held(self, count, resolution):
        """Return the bytes in memory of a split of `count` images; large ones are in a file."""
        return min(count * RGB * resolution**2, MEMORY_BYTES)

    def side(self, artifact):
        """Return the largest resolution that an index or its images are used at [px]."""
        name = artifact.upstream.get("index", artifact).settings["name"]
        return max(d["resolution"] for d in self.datasets.values() if d["source"] == name)

    def decoded(self, count, resolution):
        """Return the pixels of images that are read and decoded, see `Work`."""
        return count * (OPENED + resolution**2)

    def chosen(self, artifact):
        """Return the number of images of a class that a method chooses."""
        chosen, all_images = artifact.settings["images_per_class"], self.per_class(artifact)
        return all_images if chosen == "all" else min(chosen, all_images)

    def n_images(self, artifact):
        """Return the number of images of a set, of all its classes."""
        return artifact.keys["ipc"] * len(artifact.settings["classes"])

    def clustered(self, count, centres, numbers):
        """Return the multiply-adds of k-means on vectors of so many numbers."""
        return KMEANS_PASSES * count * centres * numbers

    def network(self, settings, resolution):
        """Return the multiply-adds of a forward pass of a network of a config."""
        return forward(settings["arch"], settings.get("width", 128), resolution)

    def passes(self, teachers, resolution):
        """Return the multiply-adds of a forward pass of each of some teachers, summed."""
        return sum(self.network(teacher.settings, resolution) for teacher in teachers)

    def trained(self, multiply_adds):
        """Return the multiply-adds of training passes, from those of as many forward passes."""
        return TRAINING * multiply_adds

    def batch_bytes(self, resolution):
        """Return the bytes of activations of a batch without gradients."""
        return self.batch_size * resolution**2 * PASSED

    def trained_bytes(self, batch_size, resolution):
        """Return the bytes of activations of a batch with gradients."""
        return batch_size * resolution**2 * TRAINED

    def latent_numbers(self, denoiser):
        """Return the numbers of a latent of a denoiser."""
        settings = denoiser.settings
        if "train" not in settings:
            return 4 * (settings["resolution"] // 8) ** 2
        part = settings["train"]["autoencoder"]
        side = settings["resolution"] / 2 ** (len(part["channels"]) - 1)
        return part["latent_channels"] * side**2

    def denoiser_work(self, denoiser, passes=0.0, encoded=0.0, decoded=0.0, **others):
        """Return the `Work` of passes of a denoiser and its autoencoder, counted in images."""
        settings = denoiser.settings
        side = settings["resolution"]
        if "train" in settings:
            pass_, autoencoder = trained_denoiser_passes(settings)
            work = {"multiply_adds": passes * pass_ + (encoded + decoded) * autoencoder}
        else:
            share = (side / 256) ** 2
            work = passes * DENOISER[settings["kind"]] + encoded * ENCODER + decoded * DECODER
            work = {"half_multiply_adds": share * work, "held_bytes": PRETRAINED_BYTES}
        return Work(**work, activation_bytes=self.batch_bytes(side), **others)


def trained_denoiser_passes(settings):
    """Return the multiply-adds of a pass of a denoiser of ours, and of half its autoencoder."""
    network, autoencoder = (settings["train"][name] for name in ("network", "autoencoder"))
    channels, side = autoencoder["channels"], settings["resolution"]
    tokens = (side / 2 ** (len(channels) - 1) / network["patch_size"]) ** 2
    pass_ = 12 * network["width"] ** 2 * network["layers"] * tokens
    blocks = 2 * (autoencoder["layers"] + 1)
    half = sum(blocks * 9 * width**2 * (side / 2**i) ** 2 for i, width in enumerate(channels))
    return pass_, half
