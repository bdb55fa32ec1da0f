"""Inputs and paths of the tables, charts, figures and pages of one experiment, by its cells.

Their paths have no digest. Cells are those of `Plan.experiments`, in the order of the table.
"""

from pathlib import Path

from stillhouse.artifacts.addresses import TABLES, digest
from stillhouse.artifacts.stages import REPORT_VERSIONS
from stillhouse.config.references import FULL_DATA
from stillhouse.methods import registry


def identities(cells):
    """Return the identity of each cell, with the folder of its student as artifact."""
    return [
        {**cell, "artifact": str(Path(cell["artifact"].member_file(cell["seed"])).parent)}
        for cell in cells
    ]


def all_tables(plan):
    """Return the tables of a plan and those that exist already, sorted paths."""
    planned = {str(TABLES / f"{experiment}.csv") for experiment in plan.experiments}
    return sorted(planned | set(map(str, TABLES.glob("*.csv"))))


def table_contents(cells):
    """Return a digest of what the tables, charts and curves of an experiment show."""
    return digest([identities(cells), REPORT_VERSIONS["tables"]])


def figure_contents(title, files):
    """Return a digest of what a figure shows.

    Parameters
    ----------
    title : str
    files : dict of str to dict of (str or int) to str
        File of each member, by the name of the input.
    """
    members = {name: list(of_members.items()) for name, of_members in files.items()}
    return digest([title, members, REPORT_VERSIONS["figures"]])


def cell_manifests(plan, cells):
    """Return the manifests of an experiment's students."""
    seeds = dict.fromkeys(cell["seed"] for cell in cells)
    artifacts = {cell["artifact"].relative_path: cell["artifact"] for cell in cells}
    return [path for one in artifacts.values() for path in plan.manifests(one, seeds)]


def counted_files(cells):
    """Return the distilled sets and soft label tables whose bytes are in an experiment's table."""
    upstream = {cell["artifact"].relative_path: cell["artifact"].upstream for cell in cells}
    counted = ("distilled", "labels")
    parts = [parts[name] for parts in upstream.values() for name in counted if name in parts]
    return list(dict.fromkeys(part.file for part in parts))


def skipping_indexes(cells):
    """Return the indexes of sources that skip unreadable images, for an experiment's notes."""
    indexes = _of_stage(cells, "index")
    return [one.file for one in indexes if one.settings["on_bad_image"] == "skip"]


def datasets(cells):
    """Return the manifests of an experiment's datasets, those of its teachers included."""
    return [one.file for one in _of_stage(cells, "dataset")]


def teacher_names(plan, cells):
    """Return {folder: names in the config} of the teachers in the lineage of cells."""
    configs = plan.config["teachers"].items()
    return {
        str(artifact.directory): [
            n for n, own in configs if own in plan.teacher_configs[artifact.name]
        ]
        for artifact in _of_stage(cells, "teacher")
    }


def _of_stage(cells, name):
    """Return the artifacts of a stage in the lineage of cells, each once."""
    artifacts, visited = {}, set()
    pending = [cell["artifact"] for cell in cells]
    while pending:
        artifact = pending.pop()
        if id(artifact) in visited:
            continue
        visited.add(id(artifact))
        pending += [part for _, part in artifact.parts()]
        if artifact.stage.name == name:
            artifacts[artifact.file] = artifact
    return list(artifacts.values())


def of_sets(cells):
    """Return the cells of distilled sets, without those of full data."""
    return [cell for cell in cells if cell["kind"] != FULL_DATA]


def distilled_files(cells):
    """Return {file: method, IPC and seed} of an experiment's distilled sets."""
    return {
        cell["artifact"].upstream["distilled"].file: {
            name: cell[name] for name in ("method", "ipc", "distill_seed")
        }
        for cell in of_sets(cells)
    }


def distilled_sets(cells):
    """Return {(method, distill seed): (kind, {IPC: distilled set})} of an experiment's cells."""
    sets = {}
    for cell in of_sets(cells):
        _, by_ipc = sets.setdefault((cell["method"], cell["distill_seed"]), (cell["kind"], {}))
        by_ipc[cell["ipc"]] = cell["artifact"].upstream["distilled"]
    return sets


def figures(cells):
    """Return the figures of an experiment, {(figure name, method, seed): (Figure, inputs, names)}.

    Methods with equal inputs of a figure share it; its name has the first method.
    """
    drawn, shared = {}, {}
    for (method, seed), (kind, sets) in distilled_sets(cells).items():
        for figure in registry.method(kind).figures:
            inputs = figure.inputs(sets)
            if not inputs:
                continue
            classes = next(iter(sets.values())).settings["classes"]
            inputs = {n: (part, members or classes) for n, (part, members) in inputs.items()}
            shown = (figure.name, tuple(artifact.relative_path for artifact, _ in inputs.values()))
            key = shared.setdefault((shown, seed), (figure.name, method, seed))
            drawn.setdefault(key, (figure, inputs, []))[2].append(method)
    return drawn


def figure_sources(plan, artifact, members):
    """Return the files by which Snakemake orders a figure after members of an artifact, or it."""
    return plan.manifests(artifact, members) if artifact.stage.member else [artifact.file]


def shown_files(artifact, members):
    """Return {member: its first file}; of an artifact without members, its own under 0."""
    if not artifact.stage.member:
        return {0: artifact.file}
    return {member: artifact.member_file(member) for member in members}


def figure_path(figure, suffix):
    """Return the path of a figure's file, with wildcards."""
    return f"results/figures/{{experiment}}/{figure.name}-{{method}}-seed{{seed}}.{suffix}"


def figure_files(experiment, drawn):
    """Return {path: identity on the page} of figures returned by `figures`."""
    return {
        path: {
            "name": figure.name,
            "title": figure.title,
            "caption": figure.caption,
            "methods": methods,
            "distill_seed": seed,
            "numbers": figure.numbers,
        }
        for (_, method, seed), (figure, _, methods) in drawn.items()
        for path in _paths(experiment, figure, method, seed, [figure.suffix])
    }


def figure_numbers(experiment, drawn):
    """Return the CSV files of figures returned by `figures`."""
    return [
        path
        for (_, method, seed), (figure, _, _) in drawn.items()
        for path in _paths(experiment, figure, method, seed, figure.extra)
    ]


def _paths(experiment, figure, method, seed, suffixes):
    wildcards = {"experiment": experiment, "method": method, "seed": seed}
    return [figure_path(figure, suffix).format(**wildcards) for suffix in suffixes]


def drawing_rules():
    """Return {rule: (function, {suffix: Figure})} of the figures of all methods.

    All figures of one function have one rule, named after the function.

    Raises
    ------
    ValueError
        If two functions have the same name, or a function draws two figures with one suffix.
    """
    rules, taken = {}, set(registry.stages())
    for figure in (one for method in registry.METHODS.values() for one in method.figures):
        name = figure.function.partition(":")[2]
        function, drawn = rules.setdefault(name, (figure.function, {}))
        if name in taken or function != figure.function:
            raise ValueError(f"{figure.function}: a rule of this name exists; rename the function")
        for suffix in (figure.suffix, *figure.extra):
            if drawn.setdefault(suffix, figure).name != figure.name:
                raise ValueError(f"{figure.function}: draws two figures with suffix {suffix!r}")
    return rules
