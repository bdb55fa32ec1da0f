"""Functions of columns that are computed in tiles, forward and backward.

Hidden activations of a tile stay in the processor's cache and are computed again for the gradient,
in place of hundreds of values per pixel that go to memory and back.
"""

import torch

# Hidden values per tile: a megabyte for a processor's cache, 256 for a GPU to be busy.
TILE_VALUES = {"cpu": 2**18, "cuda": 2**26}


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(context, function, tile, columns, *parameters):
        context.function, context.tile = function, tile
        context.save_for_backward(columns, *parameters)
        return torch.cat([function(part, *parameters) for part in columns.split(tile, 1)], 1)

    @staticmethod
    def backward(context, gradient):
        columns, *parameters = context.saved_tensors
        tile = context.tile
        leaves = [parameter.detach().requires_grad_(True) for parameter in parameters]
        total = [torch.zeros_like(parameter) for parameter in parameters]
        result = torch.empty_like(columns) if context.needs_input_grad[2] else None
        for first in range(0, columns.shape[1], tile):
            part = columns[:, first : first + tile].detach()
            part.requires_grad_(result is not None)
            with torch.enable_grad():
                out = context.function(part, *leaves)
            wanted = leaves if result is None else [part, *leaves]
            parts = list(torch.autograd.grad(out, wanted, gradient[:, first : first + tile]))
            if result is not None:
                result[:, first : first + tile] = parts.pop(0)
            for own, more in zip(total, parts, strict=True):
                own += more
        return None, None, result, *total


def tiled(function, columns, parameters, width):
    """Return ``function(columns, *parameters)``, computed in tiles of columns.

    Parameters
    ----------
    function : callable
        Of columns alone: (in, n) and parameters to (out, n).
    columns : (in, n) tensor
    parameters : list of tensor
    width : int
        Hidden values per column.
    """
    tile = max(TILE_VALUES[columns.device.type] // width, 1)
    if columns.shape[1] <= tile:
        return function(columns, *parameters)
    return _Tiled.apply(function, tile, columns, *parameters)
