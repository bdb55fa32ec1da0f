"""Export results: a distilled set for ``datasets``, all results as an archive, cells as events.

    python -m stillhouse.export TARGET FOLDER [CONFIG]
    python -m stillhouse.export --archive FILE.tar
    python -m stillhouse.export --tensorboard FOLDER

All act on ``results/`` of the working directory.
"""

import sys

from stillhouse.config import load, yaml_files
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError, UsageError, command
from stillhouse.export.card import specs_of
from stillhouse.reporting import lineage

USAGE = """\
usage: make export TARGET=results/distilled/<set> FOLDER=<new folder> [CONFIG=config.yaml]
       python -m stillhouse.export TARGET FOLDER [CONFIG]
       python -m stillhouse.export --archive FILE.tar
       python -m stillhouse.export --tensorboard FOLDER"""


def export_set(target, folder, config=None):
    """Export the set or soft label table at a path; return a line of what was written.

    Parameters
    ----------
    target : str
        Path of the artifact, or a pattern that only it matches.
    folder : str
    config : str, optional
        Config file that names the licence of the set's source.
    """
    from stillhouse.export import dataset

    paths = lineage.matching(target)
    if len(paths) > 1:
        raise StillhouseError(
            f"{target}: matches {len(paths)} artifacts; give one, such as {paths[0]}"
        )
    spec = lineage.find(paths[0])
    name = license_of(spec, config)
    parts = dataset.export(spec, folder, name)
    return f"{folder}: {', '.join(part.name for part in parts)}; licence of the images: {name}"


def license_of(spec, config):
    """Return the licence of the sources of a set that a config names; ``unknown`` without one."""
    if not config:
        return "unknown"
    sources = load.complete(yaml_files.read(config), config, [config])["sources"]
    names = [
        sources[index["settings"]["name"]]["license"]
        for index in specs_of(spec, "index")
        if index["settings"]["name"] in sources
        and catalogue.shaping(index["settings"]["name"], sources[index["settings"]["name"]])
        == index["settings"]
    ]
    return ", ".join(dict.fromkeys(names)) or "unknown"


def run(arguments):
    """Run the command; return the line that it prints."""
    if len(arguments) == 2 and arguments[0] == "--archive":
        from stillhouse.export.archive import archive

        return archive(arguments[1])
    if len(arguments) == 2 and arguments[0] == "--tensorboard":
        from stillhouse.export.tensorboard import export_cells

        return export_cells(arguments[1])
    options = any(argument.startswith("--") for argument in arguments)
    if len(arguments) in (2, 3) and all(arguments[:2]) and not options:
        return export_set(*arguments)
    raise UsageError(USAGE)


@command
def main(arguments):
    """Run the command; print what it wrote."""
    print(run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
