"""YAML files of the user: errors with file and line, and no aliases that contain themselves."""

from pathlib import Path

import yaml

from stillhouse.errors import StillhouseError, one_line

TEXT = "tag:yaml.org,2002:str"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Values of a config with all aliases expanded; ImageNet-21k's classes are 20,000.
MAX_VALUES = 1_000_000


def compose(path):
    """Return the root node of a YAML file.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    StillhouseError
        If the file is missing, no text, no YAML, or larger than a million values with its aliases
        expanded, or if a value cannot be converted, such as the 45th of a month; with the line if
        known.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=LOADER)
        _check_aliases(path, root)
        _check_values(path, root)
    except yaml.MarkedYAMLError as error:
        raise StillhouseError(_located(path, error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise StillhouseError(f"{path}: no YAML ({reason}); save it as text in UTF-8") from None
    except RecursionError:
        raise StillhouseError(f"{path}: nested too deeply; check its brackets") from None
    except OSError as error:
        raise StillhouseError(f"{path}: {error.strerror}; check the path") from None
    return root


def read(path):
    """Return the values of a YAML file; errors as of `compose`."""
    compose(path)
    text, loader = Path(path).read_text(encoding="utf-8"), LOADER
    try:
        return yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:  # an unknown tag, an unhashable key
        raise StillhouseError(_located(path, error)) from None


def _located(path, error):
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    context = f" ({error.context})" if error.context else ""
    return (
        f"{path}: {line}{error.problem or 'no YAML'}{context}; check indentation, brackets, quotes "
        "and tabs there"
    )


def _check_aliases(path, root):
    """Raise a `StillhouseError` for an alias inside its own anchor, and for too many values."""
    sizes, open_nodes = {}, set()

    def size(node):
        if id(node) in open_nodes:
            line = node.start_mark.line + 1
            raise StillhouseError(
                f"{path}: line {line}: an anchor that contains its own alias; write the value out"
            )
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _parts(node)))
            open_nodes.discard(id(node))
        return sizes[id(node)]

    if root is not None and size(root) > MAX_VALUES:
        raise StillhouseError(
            f"{path}: {float(sizes[id(root)]):.2g} values with its aliases expanded; must be at "
            f"most {MAX_VALUES:,}, use fewer aliases"
        )


def _check_values(path, root):
    """Raise a `StillhouseError` for a date, number or truth value that cannot be converted.

    PyYAML recognises them by their form, or by a tag, and converts them without a check.
    """
    constructor, nodes, checked = yaml.constructor.SafeConstructor(), [root], set()
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in checked:
            continue
        checked.add(id(node))
        nodes += _parts(node)[::-1]
        try:
            if isinstance(node, yaml.ScalarNode) and node.tag != TEXT:
                constructor.construct_object(node)
        except yaml.YAMLError:
            continue  # an error only where it is no merge key
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            mark, kind = node.start_mark, node.tag.rpartition(":")[2]
            reason = f" ({one_line(error)})" if isinstance(error, ValueError) else ""
            raise StillhouseError(
                f"{path}: line {mark.line + 1}, column {mark.column + 1}: {node.value[:40]!r} is "
                f"an invalid {kind}{reason}; put it in quotes, without a tag"
            ) from None


def _parts(node):
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
