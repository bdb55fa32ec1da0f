"""Steps of a synthesis against bare passes of its observer, forward and backward to the images."""

import torch
from stillhouse.artifacts.rng import generator
from stillhouse.config.schema import definition, fill
from stillhouse.methods.registry import METHODS
from stillhouse.methods.statistical_matching import losses
from stillhouse.methods.statistical_matching.feature_statistics import StatisticsRecorder
from stillhouse.methods.statistical_matching.matching import Matching, targets
from stillhouse.methods.statistical_matching.observers import Observer
from stillhouse.methods.statistical_matching.statistics import sum_statistics, summary
from stillhouse.methods.statistical_matching.synthesis import Batch
from stillhouse.networks import registry
from stillhouse.training import loop
from timing import paired
from torch.nn.functional import cross_entropy

STEPS, N, CLASSES = 2, 50, 10
CONVNET = {"arch": "convnet3", "width": 128, "norm": "instance"}
# Measured case → observer, side [px], method.
CASES = {
    "SRe2L, ResNet-18": ({"arch": "resnet18_modified"}, 32, {"kind": "sre2l"}),
    "G-VBSM, ConvNet-3": (CONVNET, 32, {"kind": "gvbsm"}),
    "EDC's code, ConvNet-3": (CONVNET, 32, {"kind": "edc"}),
    "EDC's paper, ConvNet-3": (CONVNET, 32, {"kind": "edc", "fidelity": "paper"}),
    "EDC's code, WRN-16-2": ({"arch": "wrn16_2"}, 32, {"kind": "edc"}),
    "EDC's code, MobileNetV2": ({"arch": "mobilenetv2_small"}, 32, {"kind": "edc"}),
    "EDC's code, ShuffleNetV2": ({"arch": "shufflenetv2_small"}, 32, {"kind": "edc"}),
}


def steps(network, side, changes):
    """Return the ratio of steps to bare passes of the same observer on as many images."""
    settings = fill({"observers": ["a"], **changes}, definition("method"))
    settings = {**METHODS[settings["kind"]].resolve(settings), "resolution": side}
    net = loop.freeze(registry.build(network, CLASSES, side, 0, "teacher"))
    images = generator(0, "bench").standard_normal((N, 3, side, side), dtype="float32")
    images, labels = torch.from_numpy(images), torch.arange(N) * CLASSES // N
    recorder = StatisticsRecorder(net, settings["kinds"], settings["tile"])
    sums = sum_statistics(recorder, [images[:10] * 50 + 100])
    stored = summary({name: value.expand(CLASSES, -1) for name, value in sums.items()})
    with torch.no_grad():
        _, recorded = recorder(images[:1])
    wanted = targets(net, recorded, stored, settings, torch.device("cpu"))
    matching = Matching(wanted, labels, settings, settings["loss_weights"])
    observer = Observer(recorder, matching, torch.arange(CLASSES))
    batch = Batch(images.clone(), labels, settings, {"seed": 0, "batch": 0})
    plain = loop.freeze(registry.build(network, CLASSES, side, 0, "teacher"))

    def ours():
        for i in range(STEPS):
            losses.backward(batch, observer, i)
            batch.step(0.01)

    def bare():
        for _ in range(STEPS):
            inputs = images.requires_grad_(True)
            cross_entropy(plain(inputs), labels).backward()
            inputs.grad = None

    return paired(ours, bare, 5)
