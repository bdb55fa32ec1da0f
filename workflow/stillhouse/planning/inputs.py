"""Input files of artifacts, as declared to Snakemake and as read by jobs.

Declared are manifests in place of the files of members, so that the size of a plan is linear in
classes plus cells. A job derives the files of its members from the spec alone.
"""

from pathlib import Path

from stillhouse.artifacts import foreign_files
from stillhouse.artifacts.addresses import member_folder
from stillhouse.data import leaks
from stillhouse.data.sources import catalogue, locations
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry

# Stages that read files of the user themselves.
READING = ("index", "images", "teacher", "denoiser")


def declared_inputs(plan, artifact, members=()):
    """Return {name: paths} of the input files by which Snakemake orders jobs.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    artifact : Artifact
    members : sequence
        Members of the job; empty for an artifact without members.
    """
    inputs = {}
    for name, part in artifact.parts():
        inputs.setdefault(name, []).extend(_declared(plan, artifact, part, members))
    return inputs


def _declared(plan, artifact, part, members):
    if not part.stage.member:
        return [part.file]
    if part.stage.member == artifact.stage.member:
        return plan.manifests(part, members)
    if part.stage.member == "class_id":
        return plan.manifests(part, artifact.settings["classes"])
    return plan.manifests(part, range(part.n_members) if part.n_members else None)


def job_inputs(spec, members=()):
    """Return the files that a stage reads, {name: Path, list of Path, or {member: Path}}.

    Parameters
    ----------
    spec : dict
        Of the artifact, see `Artifact.spec`.
    members : sequence
        Members of the job; empty for an artifact without members.

    Returns
    -------
    dict
        A path for an upstream artifact without members; a list of paths for several under one name;
        {member: path} for one with members; {class id: path} of the images for a dataset.
    """
    inputs = {}
    for name, part in spec["upstream"].items():
        several = isinstance(part, list)
        paths = [_files(spec, artifact, members) for artifact in (part if several else [part])]
        inputs[name] = paths if several else paths[0]
    return inputs


def _files(spec, part, members):
    stage = registry.stages()[part["stage"]]
    if stage.name == "dataset":
        return _files(part, part["upstream"]["images"], part["settings"]["classes"])
    if not stage.member:
        return Path(part["address"]) / stage.files[0]
    own = registry.stages()[spec["stage"]].member
    if stage.member == "class_id":
        members = members if own == "class_id" else spec["settings"]["classes"]
    elif stage.member != own:
        members = range(part["members"])
    folders = {m: member_folder(part["address"], stage.member, m) for m in members}
    return {member: folder / stage.files[0] for member, folder in folders.items()}


def weight_folders(config):
    """Return {digest: folder} of all pretrained weights in local folders."""
    keys, folders = {}, {}
    for key, weights in _pretrained(config):
        if "folder" not in weights:
            continue
        sha256, folder = weights["sha256"], weights["folder"]
        if folders.setdefault(sha256, folder) != folder:
            raise StillhouseError(
                f"{key}.folder: {folder} conflicts with {folders[sha256]} of {keys[sha256]}, which "
                "has the same sha256; use one folder, or each folder's own digest"
            )
        keys.setdefault(sha256, key)
    return folders


def _pretrained(config):
    """Yield (config key, weights) of all pretrained weights of denoisers and methods."""
    for name, denoiser in config["denoisers"].items():
        if "pretrained" in denoiser:
            yield f"denoisers.{name}.pretrained", denoiser["pretrained"]
    places = {"methods": config["methods"]}
    places |= {
        f"experiments.{name}.methods": e["methods"] for name, e in config["experiments"].items()
    }
    for place, methods in places.items():
        for name, method in methods.items():
            for key, weights in registry.method(method["kind"]).pretrained(method).items():
                yield f"{place}.{name}.{key}", weights


def user_files(plan, artifact):
    """Return the user's files among an artifact's inputs, {name: paths}."""
    if artifact.stage.name == "teacher":
        files = [file for _, file in _weights(plan, artifact)]
        return {"weights": files[:1]} if files else {}
    places = [place for _, place in _set_files(plan, artifact) if Path(place).exists()]
    if places:
        return {"set": places}
    name, source = _source(plan, artifact)
    splits = ("train", "test") if name and source["kind"] == "parquet" else ()
    return {split: locations.parquet_files(source[split]) for split in splits}


def check_files(plan):
    """Raise a `StillhouseError` if a missing artifact needs files of the user that cannot be used.

    A source is not needed where its index and its images are stored, nor weights or sets made
    elsewhere where they are; the root of images by reference, where all that is made from them is.
    Existing indexes are checked against the current ``on_leak``.
    """
    for index in plan.artifacts.get("index", {}).values():
        _check_leaks(plan, index)
    present = set()
    for artifact, outputs in _outputs(plan):
        own = artifact.stage.name in READING or artifact.relative_path in plan.set_files
        references = [root for root in _roots(plan, artifact) if root not in present]
        if (own or references) and not all(Path(path).exists() for path in outputs):
            for key, root in references:
                foreign_files.check(key, root, folder=True)
            present.update(references)
            if own:
                check_user_files(plan, artifact)


def _outputs(plan):
    """Yield (artifact, declared outputs) of a plan; sources before what is made from them."""
    for stage in registry.stages():
        for artifact in plan.artifacts.get(stage, {}).values():
            yield artifact, [artifact.file]
        for family in plan.families.get(stage, {}).values():
            yield family.artifact, [block.manifest for block in family.blocks.values()]


def check_user_files(plan, artifact):
    """Raise a `StillhouseError` if files of the user that an artifact is made from cannot be used.

    Of files below a root, only the folders of classes are looked up: the index has checksums.
    """
    if artifact.stage.name == "teacher":
        for key, file in _weights(plan, artifact)[:1]:
            foreign_files.check_weights(key, file)
    for key, place in _set_files(plan, artifact):
        foreign_files.check(key, place, folder=key.endswith(".folder"))
    for key, folder in _folders(plan, artifact):
        foreign_files.check(key, folder, folder=True)
    name, source = _source(plan, artifact)
    if name:
        locations.check_source(f"sources.{name}", source)
    for key, root in _roots(plan, artifact):
        foreign_files.check(key, root, folder=True)
    for _, part in artifact.parts():
        if part.stage.name == "index":
            _check_leaks(plan, part)


def _check_leaks(plan, index):
    name = index.settings["name"]
    if plan.config["sources"][name]["on_leak"] == "error" and index.directory.exists():
        leaks.check_existing(name, index.file)


def _folders(plan, artifact):
    """Return [(config key, path)] of the local folder of a pretrained denoiser."""
    if artifact.stage.name != "denoiser" or "sha256" not in artifact.settings.get("weights", {}):
        return []
    denoisers = plan.config["denoisers"].items()
    pretrained = {name: settings.get("pretrained", {}) for name, settings in denoisers}
    return [
        (f"denoisers.{name}.pretrained.folder", weights["folder"])
        for name, weights in pretrained.items()
        if weights.get("sha256") == artifact.settings["weights"]["sha256"]
    ]


def _set_files(plan, artifact):
    """Return [(config key, path)] of the files of a set made elsewhere."""
    name, files = plan.set_files.get(artifact.relative_path, ("", {}))
    if artifact.stage.name != "distilled":
        return []
    return [(f"methods.{name}.{key}", place) for key, place in files.items()]


def _weights(plan, artifact):
    """Return (config key, file) of each teacher of the config that a teacher artifact is for."""
    return [
        (f"teachers.{name}.weights.file", settings["weights"]["file"])
        for name, settings in plan.config["teachers"].items()
        if settings in plan.teacher_configs[artifact.name] and "file" in settings.get("weights", {})
    ]


def _source(plan, artifact):
    """Return name and settings of the source that an artifact reads itself; else empty ones."""
    if artifact.stage.name not in ("index", "images"):
        return "", {}
    name = artifact.upstream.get("index", artifact).settings["name"]
    return name, plan.config["sources"][name]


def _roots(plan, artifact):
    """Return [(config key, root)] of the source whose images an artifact reads by reference."""
    if artifact.stage.name == "dataset":  # a list of files
        return []
    stored = [part for _, part in artifact.parts() if part.stage.name in ("images", "dataset")]
    names = dict.fromkeys(part.upstream["index"].settings["name"] for part in stored)
    sources = [(name, plan.config["sources"][name]) for name in names]
    return [
        (f"sources.{name}.root", source["root"])
        for name, source in sources
        if catalogue.by_reference(source)
    ]
