"""What artifacts are made from, as files: for Snakemake, and for the jobs themselves.

Snakemake is told of manifests in place of the files of members, so that a plan grows with classes
plus cells; a job derives the files of its members from the spec alone.
"""

from pathlib import Path

from stillhouse.artifacts.addresses import member_folder
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry
from stillhouse.methods.registry import stages


def declared_inputs(plan, artifact, members=()):
    """Return {name: paths} of the files that Snakemake orders a job's upstream by.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    artifact : Artifact
    members : sequence
        Those that the job computes, where the artifact has members.
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
    return plan.manifests(part)


def job_inputs(spec, members=()):
    """Return the files that a stage reads, {name: Path, list of Path, or {member: Path}}.

    Parameters
    ----------
    spec : dict
        Of the artifact, see `Artifact.spec`.
    members : sequence
        Those that the job computes, where the artifact has members.

    Returns
    -------
    dict
        A path for an upstream stored as one; a list of paths for several under one name; {member:
        path} for an upstream stored per member; {class id: path} of the images for a dataset.
    """
    inputs = {}
    for name, part in spec["upstream"].items():
        several = isinstance(part, list)
        paths = [_files(spec, one, members) for one in (part if several else [part])]
        inputs[name] = paths if several else paths[0]
    return inputs


def _files(spec, part, members):
    stage = stages()[part["stage"]]
    if stage.name == "dataset":
        return _files(part, part["upstream"]["images"], part["settings"]["classes"])
    if not stage.member:
        return Path(part["address"]) / stage.files[0]
    own = stages()[spec["stage"]].member
    if stage.member == "class_id":
        members = members if own == "class_id" else spec["settings"]["classes"]
    elif stage.member != own:
        members = range(part["members"])
    folders = {m: member_folder(part["address"], stage.member, m) for m in members}
    return {member: folder / stage.files[0] for member, folder in folders.items()}


def weight_folders(config):
    """Return {digest of its files: folder} of all pretrained weights that lie in folders."""
    methods = [m for e in config["experiments"].values() for m in e["methods"].values()]
    holders = [*config["denoisers"].values(), *config["methods"].values(), *methods]
    folders = {}
    for weights in (h[key] for h in holders for key in ("pretrained", "clip") if key in h):
        if "folder" not in weights:
            continue
        sha256, folder = weights["sha256"], weights["folder"]
        if folders.setdefault(sha256, folder) != folder:
            raise StillhouseError(
                f"{folder}: conflicts with {folders[sha256]}, which has the same sha256; "
                "use one folder, or each folder's own digest"
            )
    return folders


def drawn_sets(cells):
    """Return {(method, distill seed): (kind, {IPC: distilled set})} of an experiment's cells."""
    sets = {}
    for cell in cells:
        _, by_ipc = sets.setdefault((cell["method"], cell["distill_seed"]), (cell["kind"], {}))
        by_ipc[cell["ipc"]] = cell["artifact"].upstream["distilled"]
    return sets


def figures(cells):
    """Return the figures of an experiment, {(figure name, method, seed): [Figure, inputs, names]}.

    Methods that share what a figure shows share the figure, which is named after the first.
    """
    drawn, shared = {}, {}
    for (method, seed), (kind, sets) in drawn_sets(cells).items():
        for figure in registry.method(kind).figures:
            inputs = figure.inputs(sets)
            if not inputs:
                continue
            classes = next(iter(sets.values())).settings["classes"]
            inputs = {n: (part, members or classes) for n, (part, members) in inputs.items()}
            shown = (figure.name, tuple(artifact.place for artifact, _ in inputs.values()))
            key = shared.setdefault((shown, seed), (figure.name, method, seed))
            drawn.setdefault(key, (figure, inputs, []))[2].append(method)
    return drawn
