"""What tables, charts and pages are made from, and how `snakemake --report` shows them."""


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


def shown(path, caption, category, what):
    """Have a file of an experiment in `snakemake --report`."""
    labels = {"experiment": "{experiment}", "what": what}
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)
