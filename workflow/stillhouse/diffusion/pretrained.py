"""The files of a pretrained pipeline in the diffusers layout: list, digest, download, check.

Weights are read from safetensors only: pickled ones (.bin, .ckpt) can run code when loaded.
"""

import functools
import hashlib
import json
import re
from pathlib import Path

from stillhouse.artifacts import finite, formats, store
from stillhouse.errors import StillhouseError, one_line

# Kind → component → class names allowed in its config.json. DiT-XL/2 was published under a class of
# diffusers that has since been divided; its weights have the same names.
MODELS = {
    "dit": {
        "vae": ("AutoencoderKL",),
        "transformer": ("DiTTransformer2DModel", "Transformer2DModel"),
    },
    "stable_diffusion": {
        "vae": ("AutoencoderKL",),
        "unet": ("UNet2DConditionModel",),
        "text_encoder": ("CLIPTextModel", "CLIPModel"),
    },
}
ALWAYS = ("model_index.json", "scheduler/scheduler_config.json")
FOLDERS = ("scheduler", "text_encoder", "tokenizer", "transformer", "unet", "vae")
PATTERNS = ("*.json", "*.txt", "*.safetensors")
# Variants of weights (model.fp16.safetensors, in parts with -00001-of-00002 before or after), which
# are loaded where a component has no others.
IGNORED = "*.*.safetensors"
VARIANT = re.compile(
    r"[^.]+\.([^.]+?)(?:-\d+-of-\d+)?\.safetensors|[^.]+-\d+-of-\d+\.([^.]+)\.safetensors"
)
PICKLED = (".bin", ".ckpt", ".pt", ".pth")
# A tokenizer consists of either of these, and of optional files.
VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))


def weight_files(folder, kind):
    """Return the files that a pipeline is loaded from, {path within `folder`: SHA-256}.

    Includes all settings, vocabularies and safetensors of the components of its kind.

    Parameters
    ----------
    folder : str or Path
        In the diffusers layout.
    kind : str
        ``dit`` or ``stable_diffusion``.

    Raises
    ------
    StillhouseError
        If a component is missing, is another model, or has no safetensors weights.
    """
    folder, parts = Path(folder), ["scheduler", *MODELS[kind]]
    for name in ALWAYS:
        _need(folder / name, kind)
    for part, classes in MODELS[kind].items():
        _check_model(folder / part, classes, kind)
    if kind == "stable_diffusion":
        parts.append("tokenizer")
        complete = (all((folder / "tokenizer" / n).is_file() for n in v) for v in VOCABULARIES)
        if not any(complete):
            for name in VOCABULARIES[0]:
                _need(folder / "tokenizer" / name, kind)
    paths = {folder / ALWAYS[0]}.union(*(_files(folder / part) for part in parts))
    return {path.relative_to(folder).as_posix(): formats.checksum(path) for path in sorted(paths)}


def _files(folder):
    """Return the files of a component that are loaded."""
    own = variant(folder)
    paths = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return {path for path in paths if _variant_of(path) in (None, own)}


def _variant_of(path):
    """Return the variant of a file of weights; None for other files."""
    match = VARIANT.fullmatch(path.name)
    return match and (match[1] or match[2])


def variant(folder):
    """Return the variant of a component whose weights have no other, None for plain weights.

    Raises
    ------
    StillhouseError
        If there are several variants, and no plain weights.
    """
    weights = [path for path in Path(folder).glob("*.safetensors") if path.is_file()]
    variants = {_variant_of(path) for path in weights}
    if None in variants or not variants:
        return None
    if len(variants) > 1:
        raise StillhouseError(
            f"{folder}: variants {' and '.join(sorted(variants))} of the weights conflict; remove "
            "all but one"
        )
    return variants.pop()


def has_weights(folder, kind):
    """Return whether all components of a pipeline have safetensors weights, no variants."""
    paths = (list((Path(folder) / part).glob("*.safetensors")) for part in MODELS[kind])
    return all(any(_variant_of(path) is None for path in listed) for listed in paths)


def _need(path, kind):
    if not path.is_file():
        raise StillhouseError(
            f"{path}: missing; the folder must be a {kind} pipeline saved by diffusers"
        )


def _check_model(folder, classes, kind):
    """Raise if a component is another model, or lacks safetensors weights."""
    path = folder / "config.json"
    _need(path, kind)
    config = read_config(path)
    listed = config.get("architectures")
    model = config.get("_class_name") or (listed[0] if listed and isinstance(listed, list) else "")
    if model not in classes:
        shown = one_line(model) if model else "name"
        raise StillhouseError(f"{path}: invalid model {shown}; must be {classes[0]}")
    weights = [path for path in _files(folder) if path.suffix == ".safetensors"]
    own = f".{variant(folder)}" if variant(folder) else ""
    for index in folder.glob(f"*.safetensors.index{own}.json"):
        shards = read_config(index).get("weight_map")
        for shard in set(shards.values() if isinstance(shards, dict) else [shards]):
            if Path(str(shard)).name != shard or not shard.endswith(".safetensors"):
                raise StillhouseError(f"{index}: invalid file {shard!r}; must be in its folder")
            _need(folder / shard, kind)
    if not weights:
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
        reason = f" ({pickled[0]} is pickled and not read)" if pickled else ""
        raise StillhouseError(
            f"{folder}/*.safetensors: missing{reason}; save the pipeline again with diffusers: "
            "save_pretrained(folder, safe_serialization=True)"
        )


def read_config(path):
    """Return the settings in a JSON file of a pipeline."""
    try:
        config = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise StillhouseError(f"{path}: invalid JSON; must be the settings of a model")
    return config


def folder_digest(files):
    """Return the digest of all files of `weight_files` together: 64 hexadecimal digits.

    The SHA-256 of their names and checksums, sorted, one line each, as ``sha256sum`` prints them.
    """
    lines = (f"{checksum}  {name}\n" for name, checksum in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fetch(hub, revision, names=None, local_only=False, variants=False):
    """Return a folder of settings and safetensors from the Hugging Face hub or its cache.

    Parameters
    ----------
    hub : str
        Name of the repository.
    revision : str
        Commit.
    names : iterable of str, optional
        Files; by default all files of a pipeline.
    local_only : bool
        Do not access the network.
    variants : bool
        Also variants of weights, which a pipeline without others needs.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    pipeline = [ALWAYS[0], *(f"{part}/{pattern}" for part in FOLDERS for pattern in PATTERNS)]
    try:
        folder = snapshot_download(
            hub,
            revision=revision,
            allow_patterns=list(names or pipeline),
            ignore_patterns=[] if variants else [IGNORED],
            local_files_only=local_only,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StillhouseError(
            f"{hub} at {revision}: could not be downloaded and is not in the local cache "
            f"({one_line(error)})"
        ) from None
    return Path(folder)


def checked_folder(path, described, folders):
    """Return the folder that a denoiser is loaded from, after checking its files.

    Parameters
    ----------
    path : Path
        ``denoiser.json``.
    described : dict
        Its content. ``weights``: None for weights of the artifact, in the same folder; otherwise
        ``sha256``, or ``hub`` and ``revision``, with their checksums in ``files``.
    folders : dict of str to str
        Folder by its `folder_digest`.

    Raises
    ------
    StillhouseError
        For the first missing or changed file.
    """
    weights = described["weights"]
    if weights is None:
        store.check([path.parent / name for name in store.read_spec(path.parent)["files"]])
        return path.parent
    if "hub" in weights:
        folder = fetch(weights["hub"], weights["revision"], local_only=True)
    elif weights["sha256"] in folders:
        folder = Path(folders[weights["sha256"]])
    else:
        raise StillhouseError(f"{path}: unknown folder of the weights {weights['sha256']}")
    for name, checksum in described["files"].items():
        _check_file(folder / name, checksum, path)
    return folder


def _check_file(path, checksum, description):
    if not path.is_file():
        raise StillhouseError(f"{path}: missing, but listed in {description}; restore the file")
    state = path.stat()
    if _cached_checksum(path, state.st_mtime_ns, state.st_size) != checksum:
        raise StillhouseError(
            f"{path}: has changed (SHA-256 differs from {description}); restore the file, or "
            f"delete {description.parent} and set the new digest in the config"
        )


@functools.lru_cache(maxsize=256)
def _cached_checksum(path, changed, size):
    """Return the SHA-256 of a file, computed once per modification time and size."""
    return formats.checksum(path)


def load_complete(model, folder, **options):
    """Return a model of diffusers or transformers with all its weights from safetensors.

    Parameters
    ----------
    model : type
    folder : Path
    options
        Of ``from_pretrained``.

    Raises
    ------
    StillhouseError
        If the folder cannot be loaded, or a weight is missing or has the wrong shape, where the
        libraries would initialise it at random with a warning, or is not finite.
    """
    try:
        network, report = model.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            variant=variant(folder),
            **options,
        )
    except (MemoryError, StillhouseError):
        raise
    except Exception as error:  # of any type, for other settings in config.json
        raise StillhouseError(
            f"{folder}: not loadable as {model.__name__} ({one_line(error)}); weights and "
            "config.json must match: download them again, or save them again with diffusers"
        ) from None
    mismatched = [key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]]
    for name in [*sorted(report["missing_keys"]), *sorted(mismatched)]:
        raise StillhouseError(f"{folder}: missing weights {name!r}; must match config.json")
    try:
        finite.check_tensors(dict(network.named_parameters()))
    except finite.NotFinite as error:
        raise StillhouseError(
            f"{folder}: {error}; use other weights, or the original files"
        ) from None
    return network


def load_diffusers(model, folder):
    """Return a model of diffusers; see `load_complete`."""
    # Without accelerate, which diffusers would use if it is installed.
    return load_complete(model, folder, low_cpu_mem_usage=False)
