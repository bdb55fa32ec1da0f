"""Weights of other projects: reading of their files, without running code, and of their names.

Files are safetensors, or PyTorch checkpoints, read with ``weights_only=True``. What a checkpoint
holds beside tensors (epoch, arguments of a training script, numbers of NumPy) is not needed:
classes of a fixed list are replaced by one without content, any other is an error.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping

import torch

from stillhouse.artifacts import foreign_files
from stillhouse.artifacts.store import load_tensors
from stillhouse.errors import StillhouseError, one_line

# Keys of checkpoints with a state dict, in the order of preference.
WRAPPERS = (
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network", "module"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict", "teacher", "params", "weights"),
)
# How deep they are nested: {"model": {"state_dict": ...}}.
DEPTH = 3
# Parts of names that wrappers of networks add in front: DataParallel, torch.compile, Lightning, …
PREFIXES = {"module", "_orig_mod", "_fsdp_wrapped_module", "model", "net", "network", "backbone"}
# The same of wrapped layers, between two other parts.
INNER = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Stores weights safely, for messages.
SAVE_MODEL = 'safetensors.torch.save_model(model, "{name}.safetensors")'
# Numbers beside the weights: AveragedModel's; those of a counter of operations (thop).
COUNTERS = {"n_averaged", "total_ops", "total_params"}


class _Ignored:
    """Stands for an object in a checkpoint that is no tensor: it takes any state, and has none."""

    def __new__(cls, *arguments):
        return super().__new__(cls)

    def __setstate__(self, state):
        pass


def _mapping(*arguments):
    """Stand for the construction of a dict of another type."""
    return OrderedDict()


def _sequence(*arguments):
    """Stand for the construction of a list of another type."""
    return []


# Harmless classes by their names in files, all without code: an object is made of the replacement.
NAMES = {
    "argparse": ("Namespace",),
    "builtins": ("bool", "dict", "float", "frozenset", "int", "list", "slice", "str", "tuple"),
    "datetime": ("date", "datetime", "timedelta", "timezone"),
    "numpy": ("bool_", "dtype", "float16", "float32", "float64", "int32", "int64", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.dtypes": ("BoolDType", "Float32DType", "Float64DType", "Int64DType"),
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "types": ("SimpleNamespace",),
    "uuid": ("SafeUUID", "UUID"),
}
DICTS = {
    "lightning_fabric.utilities.data": ("AttributeDict",),
    "lightning.fabric.utilities.data": ("AttributeDict",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
}


def _full(names):
    return [f"{module}.{name}" for module, listed in names.items() for name in listed]


REPLACED = [
    *((_Ignored, name) for name in _full(NAMES)),
    *((_mapping, "collections.defaultdict"), (_sequence, "collections.deque")),
    *((OrderedDict, name) for name in _full(DICTS)),
]


def read(path, names, aliases=None):
    """Return the tensors of a file of another project, under the names of a network.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a PyTorch checkpoint: a state dict, or one nested in `WRAPPERS`.
    names : collection of str
        Of the network's tensors; prefixes of wrappers are removed where that gives one of them.
    aliases : dict of str to str, optional
        Other names of its tensors, without prefixes: {alias: name}.

    Raises
    ------
    StillhouseError
        If the file cannot be read, holds classes that are not harmless, or has no state dict.
    """
    problem = foreign_files.problem(path)
    if problem is not None:
        raise StillhouseError(f"{path}: {problem}; must be a file of weights")
    is_safe = str(path).endswith(".safetensors") or foreign_files.is_safetensors(path)
    state = load_tensors(path) if is_safe else load_checkpoint(path, SAVE_MODEL)
    candidates = list(_state_dicts(state, "", DEPTH))
    if not candidates:
        raise StillhouseError(
            f"{path}: must contain a state dict of tensors and nothing else, on its own or "
            f"under one of {', '.join(WRAPPERS[:5])}; it {_content(state)}"
        )
    known = dict(zip(names, names, strict=True)) | (aliases or {})
    renamed = {key: _renamed(path, tensors, known) for key, tensors in candidates}
    fitting = [key for key, tensors in renamed.items() if tensors.keys() >= _needed(names)]
    chosen = (fitting or list(renamed))[0]
    if len(fitting) > 1:
        others = ", ".join(fitting[1:])
        print(
            f"{path}: the weights under {chosen} are loaded, not those under {others}", flush=True
        )
    return renamed[chosen]


def _content(state):
    """Return what a file without a known state dict holds."""
    if not isinstance(state, Mapping):
        return f"is a {type(state).__name__}"
    for name, part in {"": state, **state}.items():
        if next(_state_dicts(part, "", 0), None):
            return f"has one under {one_line(name)!r}: store that alone"
        parts = part.items() if isinstance(part, Mapping) else ()
        others = [one_line(key) for key, value in parts if not isinstance(value, torch.Tensor)]
        if 0 < len(others) < len(parts):
            where = f" under {one_line(name)!r}" if name else ""
            return f"has {others[0]!r}{where}, which is no tensor: store the tensors alone"
    keys = ", ".join(map(str, state))
    return one_line(f"has the keys {keys}") if keys else "is empty"


def _needed(names):
    """Return the names that files must have: counters of batches may be missing in old ones."""
    return {name for name in names if not name.endswith("num_batches_tracked")}


def load_checkpoint(path, save):
    """Return the content of a PyTorch checkpoint, read without running code.

    Tensors are those of the file, on the CPU. Other objects of harmless classes have no content.

    Parameters
    ----------
    path : Path
    save : str
        Call that stores the content safely, as a remedy; ``{name}`` is replaced by a file name.

    Raises
    ------
    StillhouseError
        If the file cannot be read, or holds classes that are not harmless.
    """
    with torch.serialization.safe_globals(REPLACED):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # damaged and foreign files raise errors of any type
            raise StillhouseError(f"{path}: {_problem(path, error, save)}") from None


def _problem(path, error, save):
    """Return why a checkpoint cannot be read, with the remedy."""
    name = re.sub(r"\W", "_", path.stem)
    remedy = f"store it where it was made by {save.format(name=name)}"
    classes = _classes(path, str(error))
    if classes:
        return (
            f"not readable with weights_only: it holds the class {one_line(classes[0])}; {remedy}"
        )
    if "TorchScript" in str(error):
        return f"not readable with weights_only: it is a TorchScript program; {remedy}"
    if "Unsupported operand 149" in str(error):  # the opcode of a frame
        return f"not readable with weights_only: it has pickle_protocol 4 or 5; {remedy}"
    what = foreign_files.placeholder_file(path)
    if what is not None:
        return f"not readable with weights_only: it is {what}"
    if "legacy .tar" in str(error):
        return f"not readable with weights_only: it is a tar file, as of PyTorch 0.1; {remedy}"
    # PyTorch's message goes on with advice to run the code in the file.
    reason = re.split(r"weights_only|Weights only", str(error))[0].strip()
    reason = f" ({one_line(reason)})" if reason else ""
    return f"not readable with weights_only{reason}; it must be a PyTorch checkpoint, undamaged"


def _classes(path, message):
    """Return the names of classes in a checkpoint that are not harmless, sorted."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # an older format, or damaged: errors of any type
        return re.findall(r"(?:GLOBAL|global:?|class) ([A-Za-z_][\w.]*\.\w+)", message)


def _state_dicts(state, key, depth):
    """Yield (key, tensors by name) of the state dicts in a checkpoint, in order of preference."""
    if not isinstance(state, Mapping):
        return
    if state and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        yield key or "its top", dict(state)
    elif depth:
        for name in WRAPPERS:
            yield from _state_dicts(state.get(name), f"{key}.{name}".lstrip("."), depth - 1)


def _renamed(path, tensors, known):
    """Return tensors under the names of a network, without prefixes and counters.

    known : dict of str to str
        The network's name of each name in files.
    """
    renamed, origins = {}, {}
    for name, tensor in tensors.items():
        own = _own_name(name, known)
        own = known.get(own, own)
        if own not in known and own.rpartition(".")[2] in COUNTERS:
            continue
        if own in renamed:
            raise StillhouseError(
                f"{path}: tensors {origins[own]!r} and {name!r} are both {own!r} of the network; "
                "store one of them"
            )
        renamed[own], origins[own] = tensor, name
    return renamed


def _own_name(name, names):
    """Return the network's name of a tensor; the name itself if no removal gives one."""
    parts = name.split(".")
    inner = [part for part in parts[:-1] if part not in INNER] + parts[-1:]
    for rest in (parts, inner):
        while len(rest) > 1 and ".".join(rest) not in names and rest[0] in PREFIXES:
            rest = rest[1:]
        if ".".join(rest) in names:
            return ".".join(rest)
    return name
