"""Keys and values of configs of version 0.1, for messages that name their successors."""

# Path of a key, * for a name that the user chose, to the key's new name.
RENAMED = {
    "methods.*.jitter": "shift",
    "methods.*.weights": "loss_weights",
    "methods.*.turns": "observer_order",
    "methods.*.tiles": "tile_statistics",
    "methods.*.flatness.on": "kind",
    "methods.*.process": "noising",
    "methods.*.features": "feature_space",
    "denoisers.*.labels": "class_labels",
    "protocols.*.test_view": "test_crop",
}
# Path of a key, by its new name, to {old value: new value}.
RENAMED_VALUES = {
    "methods.*.tile_statistics": {"right": "correct"},
    "methods.*.noising": {"inversion": "ddim_inversion", "diffusion": "forward"},
    "protocols.*.test_crop": {"rded": "center_224_of_256", "whole": "center_square"},
}


def hint(path, key, known=None):
    """Return a remedy for an unknown key, "renamed to 'shift'"; empty for one never known.

    Parameters
    ----------
    path : sequence
        Keys down to the object that has the key.
    key : str or bool
        YAML reads a plain ``on`` as True.
    known : collection of str, optional
        Keys that the object may have; a new name that is not among them is no remedy.
    """
    pattern = _pattern([*path, "on" if key is True else key])
    name = RENAMED.get(pattern)
    if name is None or (known is not None and name not in known):
        return ""
    values = RENAMED_VALUES.get(f"{pattern.rpartition('.')[0]}.{name}", {})
    changes = ", ".join(f"{old} is now {new}" for old, new in values.items())
    return f"renamed to {name!r}" + (f" ({changes})" if changes else "")


def value_hint(path, value):
    """Return a remedy for an invalid value, "renamed to 'forward'"; empty for one never valid.

    Parameters
    ----------
    path : sequence
        Keys down to the value.
    value : object
    """
    values = RENAMED_VALUES.get(_pattern(path), {})
    return f"renamed to {values[value]!r}" if isinstance(value, str) and value in values else ""


def _pattern(path):
    """Return a path with its names as *; that of an experiment's override as of its method."""
    if len(path) > 4 and path[0] == "experiments" and path[2] == "methods":
        path = ["methods", *path[4:]]
    return ".".join("*" if depth == 1 else str(part) for depth, part in enumerate(path))
