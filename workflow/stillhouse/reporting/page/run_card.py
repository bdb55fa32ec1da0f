"""The run card of the page: command, commit, dates, machines, teachers, and files to download."""

from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.reporting import costs, papers, table_layout
from stillhouse.reporting.page.drawing import data_uri

MIME = {
    "csv": "text/csv",
    "md": "text/markdown",
    "tex": "text/x-tex",
    "bib": "application/x-bibtex",
}


def run_card(frame, config, teacher_names):
    """Return what is known about the run of an experiment, {name: text}.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.
    config : str
        Names of the config's files, with ``--config`` for settings of the command line.
    teacher_names : dict of str to list of str
        Names in the config of each teacher, by its folder.
    """
    timings = [timing for folder in frame["artifact"] if (timing := store.read_timing(folder))]
    entries = {
        "command": command(config),
        "commit": _values(timings, "commit"),
        "students trained": _dates(timings),
        "machine": costs.BETWEEN_DEVICES.join(costs.device_names(frame["devices"])),
        "versions": _versions(timings),
        "teachers": ", ".join(teachers(frame, teacher_names)),
    }
    return {name: text for name, text in entries.items() if text}


def command(config):
    """Return the command that makes the results of a config again; empty without a config."""
    files = [name for name in config.split(", ") if name and name != "--config"]
    arguments = [*(["--configfile", *files] if files else [])]
    arguments += ["--config …"] if "--config" in config.split(", ") else []
    return " ".join(["snakemake --cores all", *arguments]) if arguments else ""


def teachers(frame, names):
    """Return name, network and test accuracy of every teacher in the lineage of cells, as texts."""
    folders = frame.drop_duplicates(table_layout.SET)["artifact"]
    specs = costs.distinct(store.read_spec(folder) for folder in folders)
    return [_teacher(spec, names) for spec in specs if spec["stage"] == "teacher"]


def _teacher(spec, names):
    path = Path(spec["address"]) / "metrics.json"
    own, network = " and ".join(names.get(spec["address"], [])), spec["settings"]["arch"]
    name = f"{own} ({network})" if own else network
    accuracy = store.read_json(path).get("accuracy") if path.exists() else None
    return name if accuracy is None else f"{name} {accuracy:.1f} %"


def _values(timings, name):
    return ", ".join(sorted({str(timing[name]) for timing in timings if timing.get(name)}))


def _dates(timings):
    dates = sorted({timing["finished"][:10] for timing in timings if timing.get("finished")})
    return " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))


def _versions(timings):
    used = {}
    for timing in timings:
        for name, version in timing.get("versions", {}).items():
            if name in ("python", "torch"):
                used.setdefault(name, set()).add(version)
    return ", ".join(f"{name} {' / '.join(sorted(of))}" for name, of in sorted(used.items()))


def downloads(inputs, frame):
    """Return name and address of the files in the page: tables, and references of its methods."""
    paths = [inputs[name][0] for name in ("csv", "markdown", "latex")]
    contents = {path.suffix: path.read_bytes() for path in paths}
    contents[".bib"] = references(frame).encode()
    experiment = frame["experiment"].iloc[0]
    return [
        {"name": f"{experiment}{suffix}", "uri": data_uri(data, MIME[suffix[1:]])}
        for suffix, data in contents.items()
    ]


def references(frame):
    """Return the papers of an experiment's methods, and Stillhouse, as BibTeX, each once."""
    cited = papers.of_kinds(frame["kind"].unique())
    return "\n\n".join(papers.bibtex(key, one) for key, one in cited.items()) + "\n"
