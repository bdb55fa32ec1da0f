"""The run card of the page: command, commit, dates, machines and teachers of an experiment."""

from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.reporting import costs, table_layout
from stillhouse.reporting.page.drawing import data_uri

MIME = {"csv": "text/csv", "md": "text/markdown", "tex": "text/x-tex"}


def run_card(frame, config):
    """Return what is known about the run of an experiment, {name: text}.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.
    config : str
        Names of the config's files, with ``--config`` for settings of the command line.
    """
    timings = [timing for folder in frame["artifact"] if (timing := store.read_timing(folder))]
    entries = {
        "command": command(config),
        "commit": _values(timings, "commit"),
        "students trained": _dates(timings),
        "machine": _values(timings, "device"),
        "versions": _versions(timings),
        "teachers": ", ".join(teachers(frame)),
    }
    return {name: text for name, text in entries.items() if text}


def command(config):
    """Return the command that makes the results of a config again; empty without a config."""
    files = [name for name in config.split(", ") if name and name != "--config"]
    arguments = [*(["--configfile", *files] if files else [])]
    arguments += ["--config …"] if "--config" in config.split(", ") else []
    return " ".join(["snakemake --cores all", *arguments]) if arguments else ""


def teachers(frame):
    """Return network and test accuracy of every teacher in the lineage of the cells, as texts."""
    folders = frame.drop_duplicates(table_layout.SET)["artifact"]
    specs = costs.distinct(store.read_spec(folder) for folder in folders)
    return [_teacher(spec) for spec in specs if spec["stage"] == "teacher"]


def _teacher(spec):
    path, name = Path(spec["address"]) / "metrics.json", spec["settings"].get("arch", "loaded")
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


def downloads(inputs, experiment):
    """Return file name and address of the tables that the page contains as files."""
    paths = [inputs[name][0] for name in ("csv", "markdown", "latex")]
    return [
        {
            "name": f"{experiment}{path.suffix}",
            "uri": data_uri(path.read_bytes(), MIME[path.suffix[1:]]),
        }
        for path in paths
    ]
