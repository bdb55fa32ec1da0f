"""The files that a pretrained pipeline is loaded from: which they are, and whether they are whole.

Weights are read from safetensors alone: pickled ones (.bin, .ckpt) can run code when loaded.
"""

import functools
import hashlib
import json
from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError

# Kind → component → what its config.json may call itself. DiT-XL/2 was published under a class of
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
# How diffusers and transformers name weights: in one file, or in parts with an index.
WEIGHTS = {"text_encoder": "model"}
PLAIN = "diffusion_pytorch_model"
PICKLED = (".bin", ".ckpt", ".pt", ".pth")
# Either of these makes a tokenizer; what else there is belongs to it.
VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))
TOKENIZER = (
    *("added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json"),
    *("tokenizer_config.json", "vocab.json"),
)


def weight_files(folder, kind):
    """Return the files that a pipeline is loaded from, {path within `folder`: SHA-256}.

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
    folder, names = Path(folder), list(ALWAYS)
    for name in ALWAYS:
        _need(folder, name, kind)
    for part, classes in MODELS[kind].items():
        names += [f"{part}/config.json", *_weights(folder, part, classes, kind)]
    if kind == "stable_diffusion":
        names += _tokenizer(folder, kind)
    return {name: store.checksum(folder / name) for name in sorted(names)}


def _need(folder, name, kind):
    if not (folder / name).is_file():
        raise StillhouseError(
            f"{folder / name}: is not there; {folder} should be a {kind} pipeline as diffusers "
            "saves it"
        )


def read_config(path):
    """Return the settings in a JSON file of a pipeline."""
    try:
        config = json.loads(Path(path).read_bytes())
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise StillhouseError(f"{path}: is not the JSON of a model's settings")
    return config


def _weights(folder, part, classes, kind):
    """Return the weight files of a component, as `folder` has them."""
    _need(folder, f"{part}/config.json", kind)
    path = folder / part / "config.json"
    config = read_config(path)
    found = config.get("_class_name") or (config.get("architectures") or [None])[0]
    if found not in classes:
        raise StillhouseError(f"{path}: is of a {found}; should be of a {classes[0]}")
    stem = f"{part}/{WEIGHTS.get(part, PLAIN)}"
    index = folder / f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"] * (folder / f"{stem}.safetensors").is_file()
    if index.is_file():
        shards = sorted(set(read_config(index).get("weight_map", {}).values()))
        for shard in shards:
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise StillhouseError(f"{index}: names {shard!r}; should be files beside it")
        names += [f"{stem}.safetensors.index.json", *(f"{part}/{shard}" for shard in shards)]
        for shard in shards:
            _need(folder, f"{part}/{shard}", kind)
    if not names:
        pickled = sorted(p.name for p in path.parent.iterdir() if p.suffix in PICKLED)
        instead = f" ({pickled[0]} is pickled, and that is never read)" if pickled else ""
        raise StillhouseError(
            f"{folder / stem}.safetensors: is not there{instead}; save the pipeline anew with "
            "diffusers: save_pretrained(folder, safe_serialization=True)"
        )
    return names


def _tokenizer(folder, kind):
    here = [name for name in TOKENIZER if (folder / "tokenizer" / name).is_file()]
    if not any(set(wanted) <= set(here) for wanted in VOCABULARIES):
        _need(folder, "tokenizer/vocab.json", kind)
        _need(folder, "tokenizer/merges.txt", kind)
    return [f"tokenizer/{name}" for name in here]


def folder_digest(files):
    """Return what stands for all files of `weight_files` together: 64 hexadecimal digits.

    The SHA-256 of their names and checksums, sorted, a line each, as ``sha256sum`` prints them.
    """
    lines = (f"{checksum}  {name}\n" for name, checksum in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fetch(hub, revision, names=None):
    """Download settings and safetensors from the Hugging Face hub.

    Parameters
    ----------
    hub : str
        Name of the repository.
    revision : str
        Commit.
    names : iterable of str, optional
        Files; by default all that a pipeline may have.

    Returns
    -------
    Path of the folder in the hub's cache, where `fetched` finds it again
    """
    return _snapshot(hub, revision, allow_patterns=list(names or _patterns()))


def fetched(hub, revision):
    """Return the folder that `fetch` has filled, without asking the network."""
    return _snapshot(hub, revision, local_files_only=True)


def _snapshot(hub, revision, **how):
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub, revision=revision, **how))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StillhouseError(
            f"{hub} at {revision}: cannot be had from the Hugging Face hub or its cache ({reason})"
        ) from None


def _patterns():
    """Return patterns of the files that `weight_files` may name, of any kind."""
    parts = {part for models in MODELS.values() for part in models}
    stems = sorted(f"{part}/{WEIGHTS.get(part, PLAIN)}" for part in parts)
    return [
        *ALWAYS,
        *(f"{part}/config.json" for part in sorted(parts)),
        *(f"{stem}{end}" for stem in stems for end in (".safetensors", ".safetensors.index.json")),
        *(f"{stem}-*-of-*.safetensors" for stem in stems),
        *(f"tokenizer/{name}" for name in TOKENIZER),
    ]


def checked_folder(path, described, folders):
    """Return the folder that a denoiser is loaded from, its files checked.

    Parameters
    ----------
    path : Path
        ``denoiser.json``.
    described : dict
        Its content: ``weights`` is None where the files lie beside it and are the artifact's own;
        else as `user_folder` takes it, and ``files`` says what they must be.
    folders : dict of str to str
        As `user_folder` takes them.
    """
    if described["weights"] is None:
        names = store.read_spec(path.parent)["files"]
        store.check([path.parent / name for name in names])
        return path.parent
    folder = user_folder(described["weights"], folders)
    compare(folder, described["files"], path)
    return folder


def user_folder(weights, folders):
    """Return the folder of weights that are a user's.

    Parameters
    ----------
    weights : dict
        Of ``denoiser.json``: ``sha256``, or ``hub`` and ``revision``.
    folders : dict of str to str
        Folder by its `folder_digest`.
    """
    if "hub" in weights:
        return fetched(weights["hub"], weights["revision"])
    if weights["sha256"] not in folders:
        raise StillhouseError(
            f"denoiser of digest {weights['sha256']}: it is not known where its folder lies"
        )
    return Path(folders[weights["sha256"]])


def compare(folder, files, path):
    """Check that a user's folder holds `files` still, as `weight_files` gave them.

    Parameters
    ----------
    folder : Path
    files : dict of str to str
    path : Path
        What lists them, named in errors.

    Raises
    ------
    StillhouseError
        Naming the first file that is gone or has changed.
    """
    for name, checksum in files.items():
        place = Path(folder) / name
        if not place.is_file():
            raise StillhouseError(f"{place}: is not there; {path} says that it is needed")
        state = place.stat()
        if _checksum(place, state.st_mtime_ns, state.st_size) != checksum:
            raise StillhouseError(
                f"{place}: has changed (SHA-256 differs from {path}); put the file back, or delete "
                f"{path.parent} and give the new digest in the config"
            )


@functools.lru_cache(maxsize=256)
def _checksum(path, changed, size):
    """Return a file's SHA-256, once for as long as it has this time of change and size."""
    return store.checksum(path)
