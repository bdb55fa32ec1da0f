"""What tables, charts and pages are made from, and how `snakemake --report` shows them."""

import functools

# Classes of a picture that has a row, or ten, for each.
PICTURED_CLASSES = {"heat_maps": 20, "clusters": 4}


def cells_of(experiment):
    """Return the cells of an experiment in the order of its table."""
    if experiment not in plan.experiments:
        raise WorkflowError(f"experiment {experiment}: not in this config; see snakemake -n")
    return plan.experiments[experiment]


def cell_files(experiment):
    """Return the files of an experiment's cells in the order of its table."""
    return kept([cell["artifact"].file("cell.json") for cell in cells_of(experiment)])


def counted_files(experiment):
    """Return the distilled sets and label tables whose bytes an experiment's table counts."""
    upstream = [cell["artifact"].upstream for cell in plan.experiments[experiment]]
    sets = [parts["distilled"].file("images.parquet") for parts in upstream]
    tables = [parts["labels"].file("labels.parquet") for parts in upstream if "labels" in parts]
    return kept(dict.fromkeys(sets + tables))


def gappy_indexes(experiment):
    """Return the indexes of sources that leave out unreadable images, for an experiment's table."""
    gappy, upstream = [], [cell["artifact"] for cell in plan.experiments[experiment]]
    while upstream:
        artifact = upstream.pop()
        upstream += artifact.upstream.values()
        if artifact.stage == "index" and artifact.settings.get("on_bad_image") == "skip":
            gappy.append(artifact.file("index.parquet"))
    return kept(dict.fromkeys(gappy))


def identities(experiment):
    """Return what identifies each cell, and the address of its artifact."""
    return [{**cell, "artifact": str(cell["artifact"].directory)} for cell in cells_of(experiment)]


def sheets(experiment):
    """Return {contact sheet: method, IPC and seed} of an experiment's distilled sets."""
    return {
        f"results/figures/{cell['artifact'].upstream['distilled'].place}.png": {
            name: cell[name] for name in ("method", "ipc", "distill_seed")
        }
        for cell in cells_of(experiment)
    }


@functools.cache
def pictured_sets(experiment):
    """Return {(method, seed): {IPC: set}} of an experiment's sets that pictures are drawn of."""
    found = {}
    for cell in cells_of(experiment):
        if cell["kind"] in ("d3hr", "ddps", "sre2l", "gvbsm", "edc"):
            sets = found.setdefault((cell["method"], cell["distill_seed"]), {})
            sets[cell["ipc"]] = cell["artifact"].upstream["distilled"]
    return found


def pictured_families(experiment, method, seed):
    """Return {picture: family} of the largest of a method's sets."""
    try:
        sets = pictured_sets(experiment)[method, int(seed)]
    except KeyError:
        raise WorkflowError(
            f"experiment {experiment}: has no pictures of {method}, seed {seed}; see snakemake -n"
        )
    upstream = sets[max(sets)].upstream
    if "synthesis" in upstream:
        return dict.fromkeys(("synthesis", "terms"), upstream["synthesis"])
    if "decoded" in upstream:
        return {"latents": upstream["decoded"].upstream["start"]}
    if "clusters" in upstream:
        clusters = upstream["clusters"]
        return {"heat_maps": clusters.upstream["scores"], "clusters": clusters}
    return {"heat_maps": upstream["scores"]}


@functools.cache
def pictures(experiment):
    """Return {file: what it shows, methods and seed}; what methods share is drawn for the first."""
    found = {}
    for method, seed in pictured_sets(experiment):
        for what, family in pictured_families(experiment, method, seed).items():
            one = {"what": what, "methods": [], "distill_seed": seed, "drawn_for": method}
            found.setdefault((what, family.place), one)["methods"].append(method)
    ending = {"latents": "svg", "terms": "svg"}
    return {
        f"results/figures/{experiment}/{one['what']}-{one.pop('drawn_for')}"
        f"-seed{one['distill_seed']}.{ending.get(one['what'], 'png')}": one
        for one in found.values()
    }


def inversions(experiment):
    """Return the tables of normality, round trip and losses that are drawn with the latents."""
    drawn = [path for path, one in pictures(experiment).items() if one["what"] == "latents"]
    return [str(Path(path).with_suffix(".csv")) for path in drawn]


def latent_files(w):
    """Return the inversions of a method's classes, and the samples of all its IPCs."""
    samples = pictured_families(w.experiment, w.method, w.seed)["latents"]
    sets = pictured_sets(w.experiment)[w.method, int(w.seed)].values()
    classes = next(iter(sets)).settings["classes"]
    drawn = [one.upstream["decoded"].upstream["start"] for one in sets]
    return {
        "inversions": kept(member_files(samples.upstream["inversion"], classes)),
        "samples": kept([path for one in drawn for path in member_files(one, classes)]),
    }


def pictured_files(w, what):
    """Return the scores or clusters of a method's first classes, and the images they are of."""
    family = pictured_families(w.experiment, w.method, w.seed)[what]
    distilled = next(iter(pictured_sets(w.experiment)[w.method, int(w.seed)].values()))
    classes = distilled.settings["classes"][: PICTURED_CLASSES[what]]
    parts = {what: family, "images": distilled.upstream["images"]}
    return {name: kept(member_files(part, classes)) for name, part in parts.items()}


def shown(path, caption, category, what):
    """Have a file of an experiment in `snakemake --report`."""
    labels = {"experiment": "{experiment}", "what": what}
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)


def first_batch(w, name):
    """Return a file of the first batch of a method's largest synthesised set."""
    family = pictured_families(w.experiment, w.method, w.seed)["synthesis"]
    return kept([family.at(batch=0).file(name)])


def pictured(path, caption, what, category="Diffusion"):
    """Have a picture of a method in `snakemake --report`."""
    words = ("experiment", "method", "seed")
    labels = {"what": what, **{word: f"{{{word}}}" for word in words}}
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)
