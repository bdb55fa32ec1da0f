"""Loading of state dicts into networks, including weights from other projects."""

import torch

from stillhouse.artifacts.finite import NotFinite, check_tensors
from stillhouse.errors import StillhouseError
from stillhouse.networks import foreign_weights
from stillhouse.networks.convnet import ConvNet, rded_names


def load_foreign(net, path):
    """Load weights of other projects into a network, see `foreign_weights.read`.

    Tensors of a ConvNet may have the names of RDED's checkpoints.

    Raises
    ------
    StillhouseError
        If the file cannot be read or does not fit the network, with the first difference.
    """
    names = rded_names(net) if isinstance(net, ConvNet) else {}
    aliases = {other: name for name, other in names.items()}
    load(net, foreign_weights.read(path, net.state_dict(), aliases), path)


def load(net, tensors, where):
    """Load all tensors of a network by name.

    Counters of batches may be missing, as in old files.

    Parameters
    ----------
    net : torch.nn.Module
    tensors : dict of str to tensor
    where : str or Path
        File or origin of the tensors, for error messages.

    Raises
    ------
    StillhouseError
        For a missing, an unknown or a misshapen tensor, and for one with a NaN or an infinity.
    """
    state = net.state_dict()
    for name, tensor in state.items():
        if name not in tensors:
            if name.endswith("num_batches_tracked"):
                continue
            other = next((one for one in sorted(tensors) if one.endswith(f".{name}")), None)
            hint = f" (but {other!r} is in it)" if other else ""
            raise StillhouseError(f"{where}: missing tensor {name!r}{hint}; check the architecture")
        if tensors[name].shape != tensor.shape:
            raise StillhouseError(
                f"{where}: shape {tuple(tensors[name].shape)} of {name!r} must be "
                f"{tuple(tensor.shape)}; check architecture, width, resolution and classes"
            )
        _check_type(where, name, tensors[name], tensor)
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        raise StillhouseError(f"{where}: unknown tensor {unknown[0]!r}; check the architecture")
    try:
        check_tensors({name: tensors[name] for name in state if name in tensors})
    except NotFinite as error:
        raise StillhouseError(
            f"{where}: {error}; use other weights, or the original file"
        ) from None
    net.load_state_dict(tensors, strict=False)


def _check_type(where, name, tensor, wanted):
    """Raise if the values of a tensor are not those of a network's float tensor."""
    if not wanted.is_floating_point():
        return
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    if not plain or not tensor.is_floating_point():
        kinds = (tensor.device.type, *(str(one)[6:] for one in (tensor.layout, tensor.dtype)))
        raise StillhouseError(
            f"{where}: type of {name!r} ({', '.join(kinds)}) must be cpu, strided, float32 or "
            "another float; store the weights as plain tensors"
        )
