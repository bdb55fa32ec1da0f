"""Rate-utility steps against their parts, and the rates of encoding and decoding bitstreams."""

import numpy as np
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.data.bitstream import files
from stillhouse.data.bitstream.layout import Layout
from stillhouse.methods.common.utilities.distribution_matching import DistributionMatching
from stillhouse.methods.common.utilities.real_images import RealImages
from stillhouse.methods.common.utilities.siamese import Siamese
from stillhouse.methods.ruo import quantiser
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.post_quantisation import Quantiser
from stillhouse.methods.ruo.rate_utility import Joint
from timing import clock, paired

CLASSES, SIDE, PER_CLASS = 2, 32, 32
LAYOUT = Layout(SIDE, (480, 0), 16, 4)
NETWORK = {"arch": "convnet3", "width": 64, "norm": "instance"}
OPERATIONS = ["color", "crop", "cutout", "flip", "scale", "rotate"]
JOINT = {
    **{"lambda": [20.0], "iterations": 1000, "learning_rate": 0.001, "ramp": 0},
    **{"noise": "gaussian", "clip": 0.1},
}


def trained(n_images):
    """Return a codec with a vector whose latents and images are those of a codec in use."""
    codec = Codec(LAYOUT, n_images)
    rng = generator(0, "bench codec", item=n_images)
    vector = codec.initial(rng)
    vector[: codec.n_latents] = torch.from_numpy(
        rng.laplace(scale=0.08, size=codec.n_latents).astype(np.float32)
    )
    vector[codec.n_latents :] += 0.02 * torch.from_numpy(
        rng.standard_normal(len(vector) - codec.n_latents, np.float32)
    )
    return codec, vector


def joint_step():
    """One update of two slices of 32 images, DM, against its utility and one decoding of each."""
    classes = [str(label) for label in range(CLASSES)]
    pixels = generator(0, "bench").integers(0, 256, (CLASSES * 200, 3, SIDE, SIDE), dtype=np.uint8)
    real_labels = torch.arange(CLASSES).repeat_interleave(200)
    real = RealImages(torch.from_numpy(pixels), real_labels, classes, 0)
    settings = {"network": NETWORK, "classes": classes, "resolution": SIDE, "real_images": 64}
    utility = DistributionMatching(settings, real, Siamese(OPERATIONS, classes, SIDE, 0))
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    parts = [trained(PER_CLASS) for _ in classes]
    joint = Joint(parts, labels, JOINT, 0, utility, "bench")
    images = torch.rand(len(labels), 3, SIDE, SIDE)
    counter = iter(range(10**6))

    def ours():
        joint.step(next(counter))

    def bare():
        gradient = utility(images, labels, next(counter))[1]
        for one, own in zip(joint.optimisers, gradient.split(PER_CLASS), strict=True):
            latents, networks = one.parts()
            quantised = latents * quantiser.GAIN
            parts = one.codec.images(quantised, networks), one.codec.bits(quantised, networks)
            torch.autograd.backward(parts, [own, torch.ones(())])
            one.vector.grad = None

    return paired(ours, bare, 5)


def rates():
    """Return images per second, by what: encoding and decoding 64 images, v4-480, C = 16."""
    codec, vector = trained(64)
    quantised = Quantiser(codec, vector).within(5e-6)
    contents = files.Contents(quantised.networks, quantised.grids, 0, 1, 64)
    data = files.write(contents)
    functions = {
        "quantise networks": lambda: Quantiser(codec, vector).within(5e-6),
        "encode": lambda: files.write(contents),
        "decode": lambda: files.read(data, "bench").images(),
    }
    return {
        name: 64 / min(clock(function) for _ in range(3)) for name, function in functions.items()
    }


def rows():
    """Print the rates of encoding and decoding, as rows of the table."""
    targets = {"decode": "400"}
    for name, rate in rates().items():
        what = f"{name}, 64 images, 32 px, v4-480, C 16 [images/s]"
        print(f"| {what} | | | {rate:.0f} | | {targets.get(name, '')} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows()
    print(joint_step())
