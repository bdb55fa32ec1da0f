"""Feature statistics: mean and variance of the inputs of a frozen network's layers, per image.

G-VBSM (Shao et al., CVPR 2024) and EDC (Shao et al., NeurIPS 2024) match the inputs of batch norms
and convolutions per channel, and those of convolutions also per tile of the map.
"""

from typing import NamedTuple

from torch import nn

from stillhouse.methods.statistical_matching.feature_statistics_ops import (
    frozen_batchnorm,
    mean_variance,
)

KINDS = {nn.BatchNorm2d: "batchnorm", nn.Conv2d: "convolution"}


class LayerStatistic(NamedTuple):
    """A vector of statistics, with one number per channel or tile of a layer's input."""

    kind: str  # batchnorm or convolution
    layer: str
    unit: str  # channel or tile

    @property
    def name(self):
        """Name in a statistics artifact."""
        return ".".join(self)


class StatisticsRecorder:
    """A network with hooks that record the statistics of its layers' inputs.

    The network is modified permanently: device and weights must not change afterwards.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode, without gradients.
    kinds : collection of str
        ``batchnorm`` (`BatchNorm2d`), ``convolution`` (`Conv2d`) or both.
    tile : int
        Side of the tiles of a convolution's input [px]; 0 for none.
    """

    def __init__(self, net, kinds, tile):
        self.net, self.tile, self.recorded, self.recording = net, tile, {}, True
        for name, module in net.named_modules():
            kind = next((kind for of, kind in KINDS.items() if isinstance(module, of)), None)
            if kind in kinds:
                module.register_forward_pre_hook(self._hook(kind, name))
            # Not batch norms of timm, which include a nonlinearity.
            plain = kind == "batchnorm" and type(module).forward is nn.BatchNorm2d.forward
            if plain and module.track_running_stats:
                module.forward = frozen_batchnorm(module)

    def __call__(self, images):
        """Return (logits, statistics) of normalised images.

        statistics : dict of LayerStatistic to (mean, variance)
            In the order of the forward pass; each (n, channels or tiles), in the precision of the
            layer's input, float32 for half precision.
        """
        self.recorded = {}
        logits = self.net(images)
        recorded, self.recorded = self.recorded, {}
        return logits, recorded

    def forward_only(self, images):
        """Return the logits of normalised images, without recording statistics."""
        self.recording = False
        try:
            return self.net(images)
        finally:
            self.recording = True

    def _hook(self, kind, name):
        def record(module, arguments):
            channel = LayerStatistic(kind, name, "channel")
            if not self.recording or channel in self.recorded:
                return  # only the first use of a layer is recorded
            tile = self.tile if kind == "convolution" else 0
            self.recorded[channel], tiles = mean_variance(arguments[0], tile)
            if tiles is not None:
                self.recorded[LayerStatistic(kind, name, "tile")] = tiles

        return record
