"""Parts that configs share: the files that a config's file includes.

``include: [shared/imagenet.yaml]`` at the top of a file names others, relative to its folder. Their
sections are merged entry by entry and key by key: a later file precedes an earlier one, and the
config all of them. A file that is included may not include others.
"""

from pathlib import Path

from stillhouse.config import yaml_files
from stillhouse.errors import StillhouseError

KEY = "include"


def included(files):
    """Return what the files of a config include, {path: mapping}, in the order of the files.

    Parameters
    ----------
    files : sequence of str or Path
        YAML files.

    Raises
    ------
    StillhouseError
        If a list is invalid, or a file is missing or includes others.
    """
    parts = {}
    for file in map(Path, files):
        names = _read(file).get(KEY, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise StillhouseError(f"{file}: {KEY}: must be a list of files; write it as one")
        for name in names:
            path = file.parent / name
            if not path.is_file():
                raise StillhouseError(
                    f"{file}: {KEY}: file not found: {name}; paths are relative to its folder"
                )
            parts[path] = _read(path)
            if KEY in parts[path]:
                raise StillhouseError(
                    f"{path}: {KEY}: must not be in an included file; name its files in {file}"
                )
    return parts


def merged(config, parts):
    """Return a config with included parts below it, without the key ``include``.

    Parameters
    ----------
    config : dict
        Not modified.
    parts : iterable of dict
        The mappings that `included` returns.

    Raises
    ------
    StillhouseError
        If the config has the key and no file does: on a command line it would have no folder.
    """
    if not isinstance(config, dict):
        return config  # the schema refuses it
    if config.get(KEY) and not parts:
        raise StillhouseError(f"{KEY}: must be in a file that includes others; write it there")
    whole = {}
    for part in [*parts, {k: v for k, v in config.items() if k != KEY}]:
        whole = _over(whole, part)
    return whole


def _over(below, above):
    """Return two mappings as one, of which the second precedes."""
    both = dict(below)
    for key, value in above.items():
        mappings = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _over(both[key], value) if mappings else value
    return both


def _read(path):
    """Return the mapping of a YAML file."""
    content = yaml_files.read(path)
    if not isinstance(content, dict | None):
        raise StillhouseError(f"{path}: must be a mapping of sections; see docs/configuration.md")
    return content or {}
