"""Loading of state dicts into networks, including weights from other projects."""

import re

import torch

from stillhouse.artifacts.finite import NotFinite, check_tensors
from stillhouse.artifacts.store import load_tensors
from stillhouse.errors import StillhouseError


def load_foreign(net, path):
    """Load weights of other projects: safetensors, or ``.pth`` with ``weights_only=True``.

    A state dict may be nested under ``state_dict`` or ``model``, and its names may begin with
    ``module.``.

    Raises
    ------
    StillhouseError
        If the file cannot be read or does not fit the network, with the first difference.
    """
    tensors = _foreign_tensors(path)
    load(net, {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}, path)


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
            raise StillhouseError(f"{where}: missing tensor {name!r}; check the architecture")
        if tensors[name].shape != tensor.shape:
            raise StillhouseError(
                f"{where}: shape {tuple(tensors[name].shape)} of {name!r} must be "
                f"{tuple(tensor.shape)}; check architecture, width, resolution and classes"
            )
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


def _foreign_tensors(path):
    if str(path).endswith(".safetensors"):
        return load_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise StillhouseError(f"{path}: not readable with weights_only ({reason})") from None
    for name in ("state_dict", "model"):
        state = state.get(name, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise StillhouseError(f"{path}: must contain a state dict of tensors")
    return state
