"""Duplicate keys of a YAML file, of which YAML loaders silently use the last."""

from collections import deque

import yaml

from stillhouse.config.yaml_files import compose
from stillhouse.errors import StillhouseError

MERGE = "tag:yaml.org,2002:merge"


def check(path):
    """Raise a `StillhouseError` for a duplicate key in a YAML file, at any depth, or no YAML.

    Parameters
    ----------
    path : str or Path
        The message has it, the key's dotted path and both lines.
    """
    root = compose(path)
    pending, visited = deque([((), root)]), set()
    while pending:
        keys, node = pending.popleft()
        # An alias is the node of its anchor.
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_mapping(path, keys, node)
            pending += [((*keys, key.value), value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += [((*keys, i), value) for i, value in enumerate(node.value)]


def _check_mapping(path, keys, node):
    lines = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
            continue
        line, name = key.start_mark.line + 1, (key.tag, key.value)
        if name in lines:
            dotted = ".".join(map(str, (*keys, key.value)))
            raise StillhouseError(
                f"{path}: {dotted}: duplicate key, in lines {lines[name]} and {line}; remove one"
            )
        lines[name] = line
